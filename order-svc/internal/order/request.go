package order

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"regexp"

	"pavane/shared/contract"
	"pavane/shared/fault"
)

// The limits of one order.
const (
	MaxLines    = 100
	MaxQuantity = 1000
	MaxKeyBytes = 255
)

// The payment methods.
const (
	Wallet = "wallet"
	Card   = "card"
)

var (
	skuForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	keyForm = regexp.MustCompile(`^[\x21-\x7e]{1,255}$`)

	// A token, never a card's number: that is for the provider alone to see.
	tokenForm  = regexp.MustCompile(`^tok_[A-Za-z0-9._-]{1,60}$`)
	cardNumber = regexp.MustCompile(`[0-9]{12}`)
)

// Line is one wanted product. It names no price: that is the catalogue's.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"` // 1 … MaxQuantity
}

// Request is what a customer asks for.
type Request struct {
	CustomerID    string `json:"customer_id"`
	Lines         []Line `json:"items"`
	PaymentMethod string `json:"payment_method"` // empty: Wallet
	Currency      string `json:"currency"`       // empty: that of the catalogue

	// CardToken is what the payment provider calls the card, for Card alone.
	CardToken string `json:"card_token,omitempty"`

	// IdempotencyKey makes a repetition answer with the first order; at most
	// MaxKeyBytes visible ASCII characters. Empty: every request is a new order.
	IdempotencyKey string `json:"-"`
}

// Product is one product of the catalogue.
type Product struct {
	SKU   string
	Name  string
	Price contract.Money // of one piece
}

// Customer is somebody who may order.
type Customer struct {
	ID    string
	Name  string
	Email string
}

// check refuses what is wrong whatever the catalogue says.
func (r *Request) check() error {
	if r.PaymentMethod == "" {
		r.PaymentMethod = Wallet
	}
	switch {
	case !contract.IsCustomerID(r.CustomerID):
		return fault.Invalid("customer_id %.80q is malformed: send %s", r.CustomerID, contract.CustomerForm)
	case len(r.Lines) == 0 || len(r.Lines) > MaxLines:
		return fault.Invalid("an order has 1 to %d items, this one has %d", MaxLines, len(r.Lines))
	case r.PaymentMethod != Wallet && r.PaymentMethod != Card:
		return fault.Invalid("payment_method %.80q is not known: send %q or %q, or leave it out", r.PaymentMethod, Wallet, Card)
	case r.IdempotencyKey != "" && !keyForm.MatchString(r.IdempotencyKey):
		return fault.Invalid("the idempotency key is malformed: send 1 to %d visible ASCII characters without spaces", MaxKeyBytes)
	}
	if err := r.checkCard(); err != nil {
		return err
	}
	seen := make(map[string]bool, len(r.Lines))
	for _, l := range r.Lines {
		switch {
		case !skuForm.MatchString(l.SKU):
			return fault.Invalid("sku %.80q is malformed: send 1 to 64 characters of a-z, 0-9, '.', '_' and '-'", l.SKU)
		case l.Quantity < 1 || l.Quantity > MaxQuantity:
			return fault.Invalid("quantity %d of %s: send a number from 1 to %d", l.Quantity, l.SKU, MaxQuantity)
		case seen[l.SKU]:
			return fault.Invalid("sku %s is there twice: send it once with the whole quantity", l.SKU)
		}
		seen[l.SKU] = true
	}
	return nil
}

// checkCard never repeats the token: somebody may have sent a card's number.
func (r *Request) checkCard() error {
	switch {
	case r.PaymentMethod == Wallet && r.CardToken != "":
		return fault.Invalid("card_token is there and the payment_method is %q: send %q, or leave the token out", Wallet, Card)
	case r.PaymentMethod == Card && (!tokenForm.MatchString(r.CardToken) || cardNumber.MatchString(r.CardToken)):
		return fault.Invalid("card_token is missing or malformed: send the token that the payment provider gave for the card, tok_ and 1 to 60 characters; never a card number")
	}
	return nil
}

// price fixes the items at the catalogue's prices and sums them up.
func (r Request) price(catalogue map[string]Product) ([]contract.Item, contract.Money, error) {
	items := make([]contract.Item, len(r.Lines))
	total := contract.Money{Currency: r.Currency}
	for i, l := range r.Lines {
		p, ok := catalogue[l.SKU]
		if !ok {
			return nil, total, fault.Invalid("there is no product %s: take a sku of GET /v1/products", l.SKU)
		}
		if total.Currency == "" {
			total.Currency = p.Price.Currency
		}
		if p.Price.Currency != total.Currency {
			return nil, total, fault.Invalid("%s is priced in %s, the order is in %.3q: order it in %s", l.SKU, p.Price.Currency, total.Currency, p.Price.Currency)
		}
		if p.Price.Amount > (math.MaxInt64-total.Amount)/l.Quantity {
			return nil, total, fault.Invalid("the total does not fit into the largest amount there is: order fewer pieces")
		}
		total.Amount += p.Price.Amount * l.Quantity
		items[i] = contract.Item{SKU: l.SKU, Quantity: l.Quantity, UnitPrice: p.Price.Amount}
	}
	return items, total, nil
}

// hash tells one request from another under the same key. It covers what was
// asked for, not how it was written: white space and the order of fields do not
// count.
func (r Request) hash() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("order: hash the request: %w", err)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

func (r Request) skus() []string {
	skus := make([]string, len(r.Lines))
	for i, l := range r.Lines {
		skus[i] = l.SKU
	}
	return skus
}
