package catalog

import (
	"strings"

	"pavane/shared/event"
)

// apiVersion is the version of the contract as a whole. Minor: an event or a
// field was added.
const apiVersion = "1.0.0"

// AsyncAPI returns the AsyncAPI 3.0 document of the saga: a channel for each
// topic, a message for each event, and for each service what it sends and what
// it receives.
func (c Catalogue) AsyncAPI() ([]byte, error) {
	return plain(object{
		{"asyncapi", "3.0.0"},
		{"info", object{
			{"title", "Pavane order saga"},
			{"version", apiVersion},
			{"description", "The events of the order saga on Kafka: CloudEvents 1.0 in binary content mode. " +
				"The record's key is the order id; the events of a key from one source carry the dense sequence 1, 2, 3 … in ce_sequence."},
		}},
		{"defaultContentType", event.ContentType},
		{"channels", c.channels()},
		{"operations", c.operations()},
		{"components", object{
			{"messages", c.messages()},
			{"schemas", c.schemas()},
			{"messageTraits", object{{"cloudEvent", headers()}}},
		}},
	}, "  ")
}

func (c Catalogue) channels() object {
	byTopic := map[string]object{}
	var order []string
	for _, e := range c.Events {
		if _, ok := byTopic[e.Topic]; !ok {
			order = append(order, e.Topic)
		}
		byTopic[e.Topic] = append(byTopic[e.Topic], member{e.Kind, ref("#/components/messages/" + e.Kind)})
	}
	var channels object
	for _, topic := range order {
		channels = append(channels, member{topic, object{
			{"address", topic},
			{"messages", byTopic[topic]},
			{"bindings", object{{"kafka", object{
				{"topic", topic},
				{"topicConfiguration", object{{"cleanup.policy", []string{"delete"}}}},
				{"bindingVersion", "0.5.0"},
			}}}},
		}})
	}
	return channels
}

// operations are two a service and kind at most, because a document of all
// services has no other way to say who does what.
func (c Catalogue) operations() object {
	var operations object
	for _, s := range c.Services {
		for _, e := range c.Events {
			if e.sentBy(s) {
				operations = append(operations, operation(s, e, "send"))
			}
			if e.readBy(s) {
				operations = append(operations, operation(s, e, "receive"))
			}
		}
	}
	return operations
}

func operation(s Service, e Event, action string) member {
	channel := "#/channels/" + e.Topic
	body := object{
		{"action", action},
		{"channel", ref(channel)},
		{"summary", strings.Join([]string{s.Name, map[string]string{"send": "publishes", "receive": "reacts to"}[action], e.Kind}, " ")},
		{"messages", []object{ref(channel + "/messages/" + e.Kind)}},
	}
	if action == "receive" {
		body = append(body, member{"bindings", object{{"kafka", object{
			{"groupId", object{{"type", "string"}, {"const", s.Name}}},
			{"bindingVersion", "0.5.0"},
		}}}})
	}
	return member{s.Name + "." + action + "." + e.Kind, body}
}

func (e Event) sentBy(s Service) bool {
	return len(Catalogue{Services: []Service{s}}.emitters(e.Kind)) > 0
}

func (e Event) readBy(s Service) bool {
	return len(Catalogue{Services: []Service{s}}.readers(e.Kind)) > 0
}

func (c Catalogue) messages() object {
	var messages object
	for _, e := range c.Events {
		summary, _, _ := strings.Cut(e.Doc, ". ")
		messages = append(messages, member{e.Kind, object{
			{"name", e.Kind},
			{"title", e.Type},
			{"summary", strings.TrimSuffix(summary, ".") + "."},
			{"description", e.Doc},
			{"contentType", event.ContentType},
			{"traits", []object{ref("#/components/messageTraits/cloudEvent")}},
			{"payload", ref("#/components/schemas/" + e.Kind)},
			{"bindings", object{{"kafka", object{
				{"key", object{{"type", "string"}, {"description", "the order id"}}},
				{"bindingVersion", "0.5.0"},
			}}}},
		}})
	}
	return messages
}

func (c Catalogue) schemas() object {
	var schemas object
	for _, e := range c.Events {
		schemas = append(schemas, member{e.Kind, e.Schema[1:]}) // the dialect is the document's here
	}
	return schemas
}

// headers are those that event.Envelope writes.
func headers() object {
	text := func(description string) object { return object{{"type", "string"}, {"description", description}} }
	return object{{"headers", object{
		{"type", "object"},
		{"properties", object{
			{"ce_specversion", object{{"type", "string"}, {"const", "1.0"}}},
			{"ce_id", text("unique for ever, a UUID of version 7")},
			{"ce_source", text("who published it, such as /order-svc")},
			{"ce_type", text("the event's kind")},
			{"ce_subject", text("the record's key")},
			{"ce_time", object{{"type", "string"}, {"format", "date-time"}, {"description", "when it was written; for people, never for ordering"}}},
			{"ce_sequence", object{{"type", "string"}, {"pattern", "^[1-9][0-9]*$"}, {"description", "its place in the dense sequence of source and key"}}},
			{"ce_correlationid", text("the saga: the order id")},
			{"ce_causationid", text("id of the event whose handling published this one; absent at the start of a saga")},
			{"content-type", object{{"type", "string"}, {"const", event.ContentType}}},
			{"traceparent", text("W3C trace context")},
		}},
		{"required", []string{"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_sequence", "content-type"}},
	}}}
}

func ref(to string) object { return object{{"$ref", to}} }
