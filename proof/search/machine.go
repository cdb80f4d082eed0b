package search

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Machine is what a service makes of every fact about one order, as its own
// functions do it: a test beside them compares the file with the code. Every
// fact of the service stands in every state exactly once: in a row, or two when
// the stock or the wallet is asked, among what is ignored, or among the faults.
type Machine struct {
	Service string  `json:"service"` // "payment-svc"
	States  []State `json:"states"`  // the first is where an order begins
}

// State is one state of a machine.
type State struct {
	Name    string   `json:"state"` // the state, then what else is remembered
	Rows    []Row    `json:"rows"`
	Ignores []string `json:"ignores"` // change nothing; a customer is told so
	Faults  []string `json:"faults"`  // cannot come in a sound saga; the key is parked
}

// Row is what a fact changes.
type Row struct {
	On    string `json:"on"`              // the kind of an event; or place, cancel, deadline: from outside
	If    string `json:"if,omitempty"`    // Granted or Refused, the answer of the stock or the wallet; empty: it is not asked
	To    string `json:"to"`              // the next state
	Books string `json:"books,omitempty"` // the entry in the ledger of stock or money
	Emits string `json:"emits,omitempty"` // the kind of the event that tells of it
}

// The answers of stock and wallet.
const (
	Granted = "granted" // there is enough
	Refused = "refused" // there is not
)

// The facts from outside for the order service.
const (
	Place    = "place"    // POST /v1/orders
	Cancel   = "cancel"   // POST /v1/orders/{id}/cancel
	Deadline = "deadline" // the order was not decided in time
)

// provided begins the facts from outside for the payment service: the recorded
// answers of the card's provider, who gives them when it likes, and gives each
// in the end.
const provided = "provider."

const (
	machineFile = "machine.json"
	cardFile    = "machine_card.json"
)

// Load reads the machines from the root of the repository: order, inventory,
// payment by wallet.
func Load(root fs.FS) ([]Machine, error) { return load(root, machineFile) }

// LoadCard is Load with payment by card.
func LoadCard(root fs.FS) ([]Machine, error) { return load(root, cardFile) }

func load(root fs.FS, payment string) ([]Machine, error) {
	files := map[string]string{"payment": payment}
	var machines []Machine
	for _, name := range []string{"order", "inventory", "payment"} {
		path := name + "-svc/internal/" + name + "/testdata/" + cmp.Or(files[name], machineFile)
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return nil, fmt.Errorf("read a machine: %w", err)
		}
		var m Machine
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		machines = append(machines, m)
	}
	return machines, nil
}

// Format writes the machine for people and for differences: a row a line.
func (m Machine) Format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"service\": %s,\n  \"states\": [", text(m.Service))
	for i, s := range m.States {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n    {\n      \"state\": %s,\n      \"rows\": [", text(s.Name))
		for j, r := range s.Rows {
			fmt.Fprintf(&b, "%s\n        %s", strings.Repeat(",", min(j, 1)), text(r))
		}
		if len(s.Rows) > 0 {
			b.WriteString("\n      ")
		}
		fmt.Fprintf(&b, "],\n      \"ignores\": %s,\n      \"faults\": %s\n    }", text(s.Ignores), text(s.Faults))
	}
	b.WriteString("\n  ]\n}\n")
	return b.Bytes()
}

// text is v as JSON on one line. What is given to it can always be encoded.
func text(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a programming error: these types have no value that cannot be encoded
	}
	return strings.TrimSpace(b.String())
}

// OrderState names a state of an order.
func OrderState(state, reason string, captured, voided, shipped, released bool) string {
	return words(state, reason, when(captured, "captured"), when(shipped, "shipped"), when(voided, "voided"), when(released, "released"))
}

// PaymentState names a state of a payment. Which facts are known matters only
// where one of them may be missing.
func PaymentState(state string, placed, reserved bool) string {
	if state != "waiting" && state != "refused" {
		return state
	}
	return words(state, when(placed, "placed"), when(reserved, "reserved"))
}

// CardState names a state of a payment by card: that of the payment, what is
// wanted of the provider and what is known of the charge there.
func CardState(payment, wanted, known string) string {
	if wanted == "" {
		return payment
	}
	return payment + " (" + wanted + ", " + known + ")"
}

func words(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(w string) bool { return w == "" }), " ")
}

func when(holds bool, word string) string {
	if holds {
		return word
	}
	return ""
}
