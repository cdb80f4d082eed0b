package notification

import (
	"encoding/json"
	"errors"
	"time"

	"pavane/shared/contract"
	"pavane/shared/event"
)

// news is what a webhook tells, in the form that the Standard Webhooks
// specification recommends. Fields are only added.
type news struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it happened, not when it is told
	Data      newsData  `json:"data"`
}

// newsData says of an order what the mail of the kind says. Who ordered is not in
// it: that is between shop and customer, and the order's id leads there.
type newsData struct {
	OrderID string          `json:"order_id"`
	Kind    Kind            `json:"kind"`
	State   string          `json:"state"`            // of the order
	Amount  *contract.Money `json:"amount,omitempty"` // what it costs, or what was received
	Reason  string          `json:"reason,omitempty"` // of a cancellation, as contract.OrderCancelled has it
	Detail  string          `json:"detail,omitempty"` // of it, for people
}

func confirmedNews(e contract.OrderConfirmed) news {
	return news{Type: "order.confirmed", Data: newsData{OrderID: e.OrderID, Kind: KindConfirmed, State: "confirmed", Amount: &e.Total}}
}

func cancelledNews(e contract.OrderCancelled) news {
	return news{Type: "order.cancelled", Data: newsData{OrderID: e.OrderID, Kind: KindCancelled, State: "cancelled", Reason: e.Reason, Detail: e.Detail}}
}

// receiptNews is of a confirmed order: money is captured after the confirmation,
// and nothing is taken back then.
func receiptNews(e contract.PaymentCaptured) news {
	return news{Type: "payment.captured", Data: newsData{OrderID: e.OrderID, Kind: KindReceipt, State: "confirmed", Amount: &e.Amount}}
}

// message is the webhook as it is written down: its bytes are those of every
// attempt.
func (n news) message(cause *event.Envelope) (Message, error) {
	if cause == nil {
		return Message{}, errors.New("a webhook needs the time of the event that it tells of, and none is handled here")
	}
	n.Timestamp = cause.Time.UTC()
	body, err := json.Marshal(n)
	return Message{OrderID: n.Data.OrderID, Kind: n.Data.Kind, Body: string(body)}, err
}
