package postgres

import "iter"

// Pages yields rows that are read a page at a time, so that what is held does not
// grow with their number. Read returns those that follow last in a strict order,
// which is a zero T for the first page; none is the end. Its error is the last that
// is yielded, with a zero T.
func Pages[T any](read func(last T) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none, last T
		for {
			page, err := read(last)
			if err != nil {
				yield(none, err)
			}
			if err != nil || len(page) == 0 {
				return
			}
			for _, last = range page {
				if !yield(last, nil) {
					return
				}
			}
		}
	}
}
