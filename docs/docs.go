// Package docs owns the documents that binaries serve; Go can embed them only
// from here.
package docs

import _ "embed"

//go:embed asyncapi.json
var asyncAPI []byte

// AsyncAPI returns the AsyncAPI 3.0 document of the saga. The caller must not
// change it.
func AsyncAPI() []byte { return asyncAPI }

//go:embed saga.json
var saga []byte

// Saga returns the saga as JSON: its events, and each service's reactions and
// states. The caller must not change it.
func Saga() []byte { return saga }
