//go:build !race

package search_test

// crashes is how many there are in the search.
const crashes = 2
