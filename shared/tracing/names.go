package tracing

import "go.opentelemetry.io/otel/attribute"

// The names of attributes, all in one place: those of messaging are still in
// development at OpenTelemetry. Semantic conventions 1.37.
const (
	errorType = attribute.Key("error.type")

	httpMethod    = attribute.Key("http.request.method")
	httpRoute     = attribute.Key("http.route")
	httpStatus    = attribute.Key("http.response.status_code")
	urlPath       = attribute.Key("url.path")
	urlScheme     = attribute.Key("url.scheme")
	urlFull       = attribute.Key("url.full")
	serverAddress = attribute.Key("server.address")
	serverPort    = attribute.Key("server.port")

	messagingSystem = attribute.Key("messaging.system")
	operationType   = attribute.Key("messaging.operation.type")
	operationName   = attribute.Key("messaging.operation.name")
	destination     = attribute.Key("messaging.destination.name")
	partition       = attribute.Key("messaging.destination.partition.id")
	consumerGroup   = attribute.Key("messaging.consumer.group.name")
	messageID       = attribute.Key("messaging.message.id")
	conversation    = attribute.Key("messaging.message.conversation_id")
	batchCount      = attribute.Key("messaging.batch.message_count")
	messageKey      = attribute.Key("messaging.kafka.message.key")
	offset          = attribute.Key("messaging.kafka.offset")

	eventKind     = attribute.Key("pavane.event.kind")
	eventSequence = attribute.Key("pavane.event.sequence")
)
