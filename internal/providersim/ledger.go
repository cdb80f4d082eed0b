package providersim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// State is what became of a charge.
type State string

// The states of a charge. A held one is captured or voided; the others are final.
const (
	Held     State = "held"
	Refused  State = "refused"
	Captured State = "captured"
	Voided   State = "voided"
)

// Charge is one charge.
type Charge struct {
	Key       string `json:"key"`       // chosen by the shop
	Reference string `json:"reference"` // the shop's order; empty: voided before it was seen
	State     State  `json:"state"`
	Amount    int64  `json:"amount"` // minor units
	Currency  string `json:"currency"`
	Reason    string `json:"reason,omitempty"` // why it was refused
	Changed   int64  `json:"changed"`          // the number of its last entry in the ledger
	Captures  int    `json:"captures"`         // how often money was taken; more than once is a fault of this program

	token string
}

// Intent is what a shop wants to be held on a card.
type Intent struct {
	Key       string `json:"key"`
	Reference string `json:"reference"`
	Token     string `json:"token"`
	Amount    int64  `json:"amount"`
	Currency  string `json:"currency"`
}

// entry is one line of the ledger's file.
type entry struct {
	State  State     `json:"state"` // that the charge takes
	Once   string    `json:"once"`  // the idempotency key
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	Intent
}

var (
	errNoCharge = errors.New("there is no charge under this key")
	errReused   = errors.New("this Idempotency-Key was used with another request")
	errState    = errors.New("the charge is in another state")
)

// Ledger is the provider's own record of every charge: a file to which each change
// is a line, written through to the disk before anybody hears of it. It needs no
// server, so nothing that is broken on purpose around it can take it along, and it
// survives the death of its process at any moment.
type Ledger struct {
	mu      sync.Mutex
	file    *os.File
	entries int64
	charges map[string]*Charge
	order   []*Charge         // by first entry
	intents map[string]Intent // by idempotency key
	broken  error             // the file could not be written: nothing is known of it any more
}

// OpenLedger opens the ledger in a file, which is made when it is not there. Half
// a line at its end, left by a death while it was written, is cut off: nobody was
// told of it.
func OpenLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("provider ledger: %w", err)
	}
	l := &Ledger{file: f, charges: map[string]*Charge{}, intents: map[string]Intent{}}
	if err := l.load(); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("provider ledger %s: %w", path, err)
	}
	return l, nil
}

func (l *Ledger) load() error {
	r := bufio.NewReader(l.file)
	var whole int64
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		var e entry
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return fmt.Errorf("line %d: %w", l.entries+1, err)
		}
		l.apply(e)
		whole += int64(len(line))
	}
	if err := l.file.Truncate(whole); err != nil {
		return err
	}
	_, err := l.file.Seek(whole, io.SeekStart)
	return err
}

// Close closes the file.
func (l *Ledger) Close() error { return l.file.Close() }

// apply makes an entry's change. The lock is held.
func (l *Ledger) apply(e entry) {
	l.entries++
	c := l.charges[e.Key]
	if c == nil {
		c = &Charge{Key: e.Key, Reference: e.Reference, Amount: e.Amount, Currency: e.Currency, token: e.Token}
		l.charges[e.Key], l.order = c, append(l.order, c)
	}
	if e.State == Captured {
		c.Captures++
	}
	if e.State == Held || e.State == Refused {
		l.intents[e.Once] = e.Intent
	}
	c.State, c.Reason, c.Changed = e.State, e.Reason, l.entries
}

// write appends an entry and makes its change. The lock is held.
func (l *Ledger) write(e entry) error {
	if l.broken != nil {
		return l.broken
	}
	e.At = time.Now().UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("provider ledger: %w", err)
	}
	if _, err = l.file.Write(append(line, '\n')); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.broken = fmt.Errorf("provider ledger: %w", err)
		return l.broken
	}
	l.apply(e)
	return nil
}

// Hold holds an amount or, with a reason to, refuses it. Under a key that is known
// it changes nothing and returns the charge as it is.
func (l *Ledger) Hold(once string, in Intent, refusal string) (Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, known := l.intents[once]; known && before != in {
		return Charge{}, errReused
	}
	if c, known := l.charges[in.Key]; known {
		return *c, nil
	}
	e := entry{State: Held, Once: once, Intent: in}
	if refusal != "" {
		e.State, e.Reason = Refused, refusal
	}
	if err := l.write(e); err != nil {
		return Charge{}, err
	}
	return *l.charges[in.Key], nil
}

// Capture takes what is held. Done before, it changes nothing.
func (l *Ledger) Capture(once, key string) (Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, known := l.charges[key]
	switch {
	case !known:
		return Charge{}, errNoCharge
	case c.State == Captured:
		return *c, nil
	case c.State != Held:
		return *c, errState
	}
	err := l.write(entry{State: Captured, Once: once, Intent: Intent{Key: key}})
	return *c, err
}

// Void gives back what is held, or makes sure that nothing ever will be held under
// the key. Where nothing is held any more it changes nothing.
func (l *Ledger) Void(once, key string) (Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, known := l.charges[key]
	switch {
	case known && c.State == Captured:
		return *c, errState
	case known && c.State != Held:
		return *c, nil
	}
	if err := l.write(entry{State: Voided, Once: once, Intent: Intent{Key: key}}); err != nil {
		return Charge{}, err
	}
	return *l.charges[key], nil
}

// Find returns the charge under a key.
func (l *Ledger) Find(key string) (Charge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, known := l.charges[key]; known {
		return *c, nil
	}
	return Charge{}, errNoCharge
}

// Changes returns the charges that changed after an entry, the oldest change
// first, at most limit of them.
func (l *Ledger) Changes(after int64, limit int) []Charge {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := []Charge{}
	for _, c := range l.order {
		if c.Changed > after {
			changed = append(changed, *c)
		}
	}
	return first(changed, limit)
}
