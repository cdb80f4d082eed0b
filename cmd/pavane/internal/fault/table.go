package fault

import (
	"slices"
	"time"
)

func all() []string {
	return []string{"order-svc", "payment-svc", "inventory-svc", "notification-svc", "gateway-svc"}
}

// stored are the services with a database.
func stored() []string { return all()[:4] }

func both() []string { return []string{"broker", "postgres"} }

const second = time.Second

// Kinds lists all.
func Kinds() []Kind {
	return slices.Concat(ofServices(), ofServers(), ofProvider(), ofWays(), ofRecords())
}

func ofServices() []Kind {
	return []Kind{
		{
			"kill", all(), nil, 0, 0, "kills a service with kill -9; it is started again",
			"its sagas wait a moment and go on; nothing is lost or done twice", newInstant(kill, "killed and started again"),
		},
		{
			"restart", all(), nil, 0, 0, "stops a service as a rollout does, and starts it again",
			"it finishes what it does first; hardly an order notices", newInstant(restart, "stopped and started again"),
		},
		{
			"pause", all(), nil, 2 * second, 9 * second, "stops a service with SIGSTOP: it lives and does nothing",
			"after 6 s Kafka gives its partitions away; what it still believes is refused when it wakes", newPause,
		},
		{
			"down", all(), nil, 2 * second, 8 * second, "takes a service down and leaves it down",
			"the others go on; orders wait for its step", newDown("", false),
		},
		{
			"second", stored(), nil, 4 * second, 12 * second, "runs a second instance of a service, with a second relay on the same outbox",
			"each event is in the log once all the same", newSecond(false),
		},
		{
			"roll", stored(), nil, 3 * second, 8 * second, "replaces a service as a rolling update does: a second instance comes, the first restarts, the second goes",
			"no order fails", newSecond(true),
		},
	}
}

func ofServers() []Kind {
	return []Kind{
		{
			"broker", nil, nil, 3 * second, 8 * second, "stops Kafka",
			"orders are still taken and wait; nothing is parked; afterwards they go on in order", newDown("broker", false),
		},
		{
			"broker-kill", nil, nil, 1 * second, 6 * second, "kills Kafka with kill -9",
			"as when it stops; what the relays send again, the broker recognises", newDown("broker", true),
		},
		{
			"postgres", nil, nil, 1 * second, 5 * second, "stops Postgres at once, as pg_ctl -m immediate does",
			"requests fail until it is back; what was answered is kept", newDown("postgres", false),
		},
		{
			"postgres-kill", nil, nil, 1 * second, 5 * second, "kills Postgres with kill -9",
			"as when it stops at once", newDown("postgres", true),
		},
		{
			"postgres-slow", nil, nil, 4 * second, 12 * second, "has each flush of Postgres take 100 ms longer, as a slow disk does",
			"everything takes longer, and more transactions share a flush", newSlowDisk,
		},
		{
			Clock, nil, nil, 4 * second, 12 * second, "has the clock of Postgres jump by two hours, forth or back, and back again; needs libfaketime",
			"forth, orders that are under way meet their deadline and are cancelled; all others go on, and nothing is left waiting for hours", newClock,
		},
	}
}

func ofProvider() []Kind {
	return []Kind{
		{
			"provider", nil, nil, 2 * second, 9 * second, "takes the card provider down",
			"orders paid by card wait, and are cancelled at their deadline; the others go on", newDown("provider", false),
		},
		{
			"provider-kill", nil, nil, 1 * second, 6 * second, "kills the card provider with kill -9",
			"what it had answered stands in its ledger; what it had not is asked for again", newDown("provider", true),
		},
		{
			"provider-wrong", nil, nil, 4 * second, 12 * second, "has the card provider fail, before and after it charged, lose its answers, answer late, twice or what nobody can read",
			"it is asked what came of a call before anything is asked again; each confirmed order is charged once", newWrong,
		},
	}
}

func ofWays() []Kind {
	return []Kind{
		{
			"partition", stored(), both(), 2 * second, 9 * second, "parts one service from Kafka or Postgres: nothing passes, nothing is ended",
			"only that service waits; what it had sent arrives late", newWay(part),
		},
		{
			"latency", stored(), both(), 4 * second, 12 * second, "has each answer of Kafka or Postgres to one service come 200 ms later",
			"its steps take longer", newWay(slow),
		},
		{
			"answers", stored(), both(), 4 * second, 10 * second, "loses, cuts off or delays a few requests of one service to Kafka or Postgres, or the answers to them",
			"it asks again, whether they were carried out or not, and nothing happens twice", newLoss,
		},
	}
}

func ofRecords() []Kind {
	return []Kind{
		{
			"duplicates", nil, nil, 0, 0, "writes the latest records of each topic into it once more",
			"every service drops them; `pavane audit` sets them aside, because they are marked", newRecords(duplicates),
		},
		{
			"replay", nil, nil, 0, 0, "writes records from the beginning of each topic into it once more",
			"as with duplicates, for orders that ended long ago", newRecords(replay),
		},
		{
			"reorder", nil, nil, 0, 0, "writes the latest records of each topic into it once more, the last first",
			"as with duplicates", newRecords(reorder),
		},
		{
			"poison", nil, nil, 0, 0, "writes records that nobody can handle, under keys of no order",
			"the services park these keys (pavane parked list); all orders go on", newRecords(poison),
		},
	}
}
