package brokertest

import "pavane/shared/broker"

func (b *bench) batches() {
	topic, one := b.topic(1, nil), b.producer()
	other := broker.Producer{ID: b.producer().ID, Epoch: 2}
	b.put(batch(topic, 0, one, 0, 3))
	b.put(batch(topic, 0, other, 0, 2))
	b.put(batch(topic, 0, one, 3, 4))
	want := []broker.Written{
		{Offset: 0, Producer: one, Sequence: 0, Len: 3}, {Offset: 3, Producer: other, Sequence: 0, Len: 2}, {Offset: 5, Producer: one, Sequence: 3, Len: 4},
	}
	got, next, err := b.client.Batches(b.ctx, broker.Position{Topic: topic}, 1<<20)
	b.must(err)
	b.wantEqual("batches", got, want)
	b.wantEqual("next", next, 9)
	got, next, err = b.client.Batches(b.ctx, broker.Position{Topic: topic, Offset: 4}, 1) // within a batch, which comes whole
	b.must(err)
	b.wantEqual("first batch", got[0], want[1])
	b.wantEqual("next is behind it", next >= 5, true)
	got, next, err = b.client.Batches(b.ctx, broker.Position{Topic: topic, Offset: 9}, 1<<20)
	b.must(err)
	b.wantEqual("batches at the end", []any{len(got), next}, []any{0, 9})
	_, _, err = b.client.Batches(b.ctx, broker.Position{Topic: topic, Offset: 10}, 1<<20)
	b.is(err, broker.ErrOffsetRange)
}
