package sagatest_test

import (
	"fmt"

	"pavane/shared/event"
	"pavane/shared/outbox"
	"pavane/shared/pgtest"
	"pavane/shared/react"
	"pavane/shared/sagatest"
)

// In a test, t is the test's own.
func ExampleRequireHandledOnce() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"test": "tests.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	sagatest.RequireHandledOnce(t, db, out, react.On(answer, answered{}), asked{ID: "a-1", N: 1})
	sagatest.RequirePublished(t, db, event.Number(1, answered{ID: "a-1", N: 1})...)
	fmt.Println("three deliveries, one answer")
	// Output: three deliveries, one answer
}

func ExampleApply() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.WithKit(t)
	out, err := outbox.New(outbox.Config{Source: "/example", Topics: event.Topics{"test": "tests.events.v1"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(sagatest.Apply(t, db, out, react.On(answer), asked{ID: "a-1", N: 1})) // the emission is not declared
	// Output: test.asked.v1 #1 is parked (fault): the reaction on test.asked.v1 emitted test.answered.v1, which it does not declare; add it to react.On
}

func ExampleAtOnce() {
	t, end := pgtest.ForExample()
	defer end()
	kinds := sagatest.AtOnce(t, 4, 100, func(n int) ([]event.Numbered, error) {
		return event.Number(1, answered{ID: fmt.Sprint(n), N: 1}), nil
	})
	fmt.Println(kinds)
	// Output: map[test.answered.v1:100]
}

// Money that comes and goes in any order: what is left in the end is the same.
func ExampleRequireSameEnd() {
	t, end := pgtest.ForExample()
	defer end()
	sagatest.RequireSameEnd(t, 10, []int64{3, 2}, func(int) sagatest.Run[int64, int64] {
		var sum int64
		return sagatest.Run[int64, int64]{
			Tell: func(n int64) ([]event.Numbered, error) { sum += n; return nil, nil },
			End:  func([]event.Numbered) int64 { return sum },
		}
	})
	fmt.Println("each of 6 orders ends with 10")
	// Output: each of 6 orders ends with 10
}
