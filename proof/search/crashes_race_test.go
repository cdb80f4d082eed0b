//go:build race

package search_test

// crashes is less under the race detector, which makes the search twenty times
// slower and can find nothing in it: it is one goroutine.
const crashes = 1
