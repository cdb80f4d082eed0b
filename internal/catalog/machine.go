package catalog

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// sagaDocument is docs/saga.json: the saga for programs that draw it.
type sagaDocument struct {
	Events   []eventDocument   `json:"events"`
	Services []serviceDocument `json:"services"`
}

type eventDocument struct {
	Kind    string `json:"kind"`
	Topic   string `json:"topic"`
	Failure bool   `json:"failure,omitempty"`
	Undoes  string `json:"undoes,omitempty"`
	Doc     string `json:"doc"`
}

type serviceDocument struct {
	Name      string        `json:"name"`
	Reactions []rowDocument `json:"reactions"`
	Machine   []transition  `json:"machine"` // empty for a service without states
}

type rowDocument struct {
	On      string   `json:"on,omitempty"`
	Origin  string   `json:"origin,omitempty"`
	Emits   []string `json:"emits"`
	Handler string   `json:"handler,omitempty"`
}

// transition is one change of a service's state.
type transition struct {
	From  string `json:"from"`
	On    string `json:"on"`
	To    string `json:"to"`
	Emits string `json:"emits,omitempty"`
}

func (c Catalogue) sagaJSON(root fs.FS) ([]byte, error) {
	d := sagaDocument{}
	for _, e := range c.Events {
		d.Events = append(d.Events, eventDocument{Kind: e.Kind, Topic: e.Topic, Failure: e.Failure, Undoes: e.Undoes, Doc: e.Doc})
	}
	for _, s := range c.Services {
		machine, err := s.machine(root)
		if err != nil {
			return nil, err
		}
		out := serviceDocument{Name: s.Name, Reactions: []rowDocument{}, Machine: machine}
		for _, r := range s.Rows {
			out.Reactions = append(out.Reactions, rowDocument{On: r.On, Origin: r.Origin, Emits: append([]string{}, r.Emits...), Handler: r.Handler})
		}
		d.Services = append(d.Services, out)
	}
	return plain(d, " ")
}

// machine reads the service's state machine as its tests hold it. That tells
// what is known beside the state, such as "waiting placed"; here only the state
// itself counts, its first word.
func (s Service) machine(root fs.FS) ([]transition, error) {
	machine := []transition{}
	files, err := fs.Glob(root, s.Name+"/internal/*/testdata/machine.json")
	if err != nil || len(files) == 0 {
		return machine, err
	}
	text, err := fs.ReadFile(root, files[0])
	if err != nil {
		return nil, err
	}
	var m struct {
		States []struct {
			State string
			Rows  []struct{ On, To, Emits string }
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", files[0], err)
	}
	for _, state := range m.States {
		for _, r := range state.Rows {
			t := transition{From: firstWord(state.State), On: r.On, To: firstWord(r.To), Emits: r.Emits}
			if t.From != t.To && !slices.Contains(machine, t) {
				machine = append(machine, t)
			}
		}
	}
	return machine, nil
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
