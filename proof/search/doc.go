// Package search owns the exhaustive search over the saga.
package search
