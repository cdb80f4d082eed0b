package audit

import (
	"cmp"
	"slices"
	"time"

	"pavane/shared/broker"
)

type reporter = func(format string, args ...any)

func findForeign(d *Data, report reporter) {
	for _, r := range d.Log {
		if r.Fault != "" {
			report("%s: %s", r.at(), r.Fault)
			continue
		}
		if want := broker.Partition([]byte(r.Stream.Key), d.Partitions); want != r.Partition {
			report("%s: %s belongs into partition %d", r.at(), r.id(), want)
		}
	}
}

func findUnpublished(d *Data, report reporter) {
	log := d.published()
	for _, s := range d.Services {
		for _, row := range s.Rows {
			records, p := log[row.id()], Part{row.Topic, broker.Partition([]byte(row.Stream.Key), d.Partitions)}
			switch {
			case len(records) == 0:
				if d.settled(row.Time) && !d.expired(p, row.Time) {
					report("%s: outbox row %d (%s, %s) is not in %s", s.Name, row.ID, row.Kind, row.id(), row.Topic)
				}
			case len(records) > 1:
				report("%s: outbox row %d (%s, %s) is in the log %d times: %s and %s",
					s.Name, row.ID, row.Kind, row.id(), len(records), records[0].at(), records[1].at())
			case records[0].Topic != row.Topic:
				report("%s: outbox row %d (%s, %s) is for %s but lies in %s", s.Name, row.ID, row.Kind, row.id(), row.Topic, records[0].at())
			case records[0].Sum != row.Sum:
				report("%s: outbox row %d (%s, %s) has other bytes than %s", s.Name, row.ID, row.Kind, row.id(), records[0].at())
			}
		}
	}
}

func findUnknown(d *Data, report reporter) {
	rows := map[id]bool{}
	kept := map[string]time.Time{}
	for _, s := range d.Services {
		kept[s.Source] = s.KeptFrom
		for _, r := range s.Rows {
			rows[r.id()] = true
		}
	}
	for _, r := range d.Log {
		if r.Fault != "" || rows[r.id()] {
			continue
		}
		from, ours := kept[r.Stream.Source]
		// A record younger than the first read may have its row since.
		if ours && (r.Time.Before(from) || !d.settled(r.Time)) {
			continue
		}
		report("%s: %s (%s) has no outbox row", r.at(), r.Kind, r.id())
	}
}

func findDisorder(d *Data, report reporter) {
	last := map[Stream]Record{}
	for _, r := range d.Log { // by topic, partition and offset, so in order within a key
		if r.Fault != "" {
			continue
		}
		before, had := last[r.Stream]
		last[r.Stream] = r
		switch {
		case !had && r.Sequence != 1 && d.Bounds[Part{r.Topic, r.Partition}].First == 0:
			report("%s: %s is the first of its key; the events before it are missing", r.at(), r.id())
		case had && r.Sequence == before.Sequence+1, !had:
		case r.Sequence == before.Sequence:
			report("%s: %s comes again after %s", r.at(), r.id(), before.at())
		case r.Sequence < before.Sequence:
			report("%s: %s comes after #%d at %s", r.at(), r.id(), before.Sequence, before.at())
		default:
			report("%s: %s follows #%d at %s; those between are missing", r.at(), r.id(), before.Sequence, before.at())
		}
	}
}

func findSparse(d *Data, report reporter) {
	for _, s := range d.Services {
		last := map[Stream]Row{}
		for _, r := range s.Rows {
			if r.Stream.Source != s.Source {
				report("%s: outbox row %d (%s) names %s as its source", s.Name, r.ID, r.Kind, r.Stream.Source)
				continue
			}
			before, had := last[r.Stream]
			last[r.Stream] = r
			if had && r.Sequence != before.Sequence+1 {
				report("%s: outbox row %d (%s, %s) follows row %d with #%d", s.Name, r.ID, r.Kind, r.id(), before.ID, before.Sequence)
			}
			if !had && r.Sequence != 1 && s.KeptFrom.IsZero() {
				report("%s: outbox row %d (%s, %s) is the first of its key", s.Name, r.ID, r.Kind, r.id())
			}
		}
	}
}

func findUnapplied(d *Data, report reporter) {
	last := map[string]map[Stream]Record{} // topic → stream → last settled record
	all := map[Stream]int64{}
	for _, r := range d.Log {
		if r.Fault != "" {
			continue
		}
		all[r.Stream] = r.Sequence
		if !d.settled(r.Time) {
			continue
		}
		if last[r.Topic] == nil {
			last[r.Topic] = map[Stream]Record{}
		}
		last[r.Topic][r.Stream] = r
	}
	for _, s := range d.Services {
		for _, topic := range s.Reads {
			for _, stream := range byPlace(last[topic]) {
				r := last[topic][stream]
				if got := s.Inbox[stream]; got < r.Sequence {
					report("%s has applied %s of %s up to #%d; the log goes to #%d (%s, %s)", s.Name, stream.Key, stream.Source, got, r.Sequence, r.Kind, r.at())
				}
			}
		}
		for _, stream := range byPlace(s.Inbox) {
			if end, known := all[stream]; known && s.Inbox[stream] > end {
				report("%s has applied %s of %s up to #%d; the log ends at #%d", s.Name, stream.Key, stream.Source, s.Inbox[stream], end)
			}
		}
	}
}

func findUnread(d *Data, report reporter) {
	due := map[Part]int64{} // offset after the last settled record
	for _, r := range d.Log {
		if d.settled(r.Time) {
			due[Part{r.Topic, r.Partition}] = r.Offset + 1
		}
	}
	parts := make([]Part, 0, len(d.Bounds))
	for p := range d.Bounds {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for _, s := range d.Services {
		for _, p := range parts {
			if !slices.Contains(s.Reads, p.Topic) {
				continue
			}
			next, bounds := s.Offsets[p], d.Bounds[p]
			if next < due[p] {
				report("%s has read %s/%d up to offset %d; the log goes to %d", s.Name, p.Topic, p.Partition, next, bounds.End)
			}
			if next > bounds.End {
				report("%s has read %s/%d up to offset %d; the log ends at %d: it is another log", s.Name, p.Topic, p.Partition, next, bounds.End)
			}
		}
	}
}

func findParked(d *Data, report reporter) {
	for _, s := range d.Services {
		for _, p := range s.Parked {
			report("%s has parked %s #%d of %s (%s): %s", s.Name, p.Stream.Key, p.Sequence, p.Stream.Source, p.Kind, p.Reason)
		}
	}
}
