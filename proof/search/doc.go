// Package search owns the exhaustive search over the saga: every interleaving
// of the services' transition functions with records delivered twice, crashes
// and requests at any time, breadth first, so that the first violation found has
// the shortest schedule. Larger cases are walked at random, by seed.
//
// The functions come as tables ([Machine]) that tests beside them compare with
// the code. What lies around them is modelled here, and the services' walk tests
// replay schedules of the model on the real handlers, inbox, outbox and
// Postgres, so that neither drifts from the other:
//
//   - The log (local.go): what a service publishes of an order is one sequence,
//     which every reader gets in order, at any later time. A relay that is late is
//     not told apart from a reader that is late.
//   - The inbox (local.go): per reader, source and order, the last number
//     applied; at or below is dropped, the next is handled, above is a gap.
//   - The card's provider (local.go): it answers what it is asked at any later time,
//     and in the end. What its charge comes to is part of the payment's machine.
//   - Stock and wallet (world.go): what they answer, and what the constraints of
//     the ledgers refuse.
//
// A transaction is one step: the rows of the order, of the stock and of the
// accounts are locked until commit, so nothing comes in between. A crash in it
// loses its work and the record comes again; a crash after it loses only that
// anybody heard of it.
package search
