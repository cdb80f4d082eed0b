// Package notification owns what is told of orders, by mail and by webhook: what
// the messages say, that each is written once per order and kind, and that each
// written one is sent.
//
// A reaction only writes a row for each carrier, in the transaction of the kit. A
// [Sender] for each hands the rows to their receiver afterwards, outside any
// transaction.
package notification

import (
	"fmt"
	"net/url"
	"strings"

	"pavane/shared/contract"
)

// Kind tells what a message is about. An order has at most one mail and one webhook
// of each kind.
type Kind string

// The kinds of message.
const (
	KindConfirmed Kind = "confirmed"
	KindCancelled Kind = "cancelled"
	KindReceipt   Kind = "receipt"
)

// Message is one mail or webhook as it is written down.
type Message struct {
	OrderID   string `db:"order_id"`
	Kind      Kind   `db:"kind"`
	Recipient string `db:"recipient"` // of a mail; empty while it is not known
	Subject   string `db:"subject"`   // of a mail
	Body      string `db:"body"`      // plain text of a mail, JSON of a webhook
}

// MessageID is the Message-ID of the mail without its angle brackets, at a
// domain of the sender. It depends on order and kind alone, so a mail that is
// sent twice can be recognised by whoever receives it (RFC 5322, 3.6.4).
func (m Message) MessageID(domain string) string {
	return url.QueryEscape(m.OrderID) + "." + string(m.Kind) + "@" + domain
}

func confirmed(e contract.OrderConfirmed) Message {
	return Message{
		OrderID: e.OrderID, Kind: KindConfirmed, Recipient: e.Email,
		Subject: "Your order " + e.OrderID + " is confirmed",
		Body:    fmt.Sprintf("Your order %s over %s is confirmed and on its way.\n", e.OrderID, amount(e.Total)),
	}
}

func cancelled(e contract.OrderCancelled) Message {
	return Message{
		OrderID: e.OrderID, Kind: KindCancelled, Recipient: e.Email,
		Subject: "Your order " + e.OrderID + " is cancelled",
		Body:    fmt.Sprintf("Your order %s is cancelled: %s.\nYou pay nothing; what was held is free again.\n", e.OrderID, why(e)),
	}
}

// receipt has no address: the fact does not name it.
func receipt(e contract.PaymentCaptured) Message {
	return Message{
		OrderID: e.OrderID, Kind: KindReceipt,
		Subject: "Receipt for your order " + e.OrderID,
		Body:    fmt.Sprintf("We received %s for your order %s. Thank you.\n", amount(e.Amount), e.OrderID),
	}
}

// why is the reason of a cancellation in words for the customer. A reason that
// came after this was written is told as it is.
func why(e contract.OrderCancelled) string {
	text := e.Reason
	switch e.Reason {
	case "out_of_stock":
		text = "something in it is out of stock"
	case "payment_declined":
		text = "the payment was declined"
	case "customer":
		text = "you asked for it"
	case "deadline":
		text = "it could not be completed in time"
	}
	if detail := strings.TrimRight(e.Detail, ". "); detail != "" {
		text += " (" + detail + ")"
	}
	return text
}

// amount writes money for people. The catalogue has prices only in currencies
// with two decimal places.
func amount(m contract.Money) string {
	return fmt.Sprintf("%d.%02d %s", m.Amount/100, m.Amount%100, m.Currency)
}
