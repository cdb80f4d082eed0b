// Package migrations owns the SQL of the kit and of each service, embedded
// into the binaries. Go can embed only what lies below a package, so the files
// live here and not beside their services.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed kit order payment inventory notification
var files embed.FS

// Kit returns the tables of outbox, relay and inbox.
func Kit() fs.FS { return sub("kit") }

// Order returns the tables of order-svc.
func Order() fs.FS { return sub("order") }

// Payment returns the tables of payment-svc.
func Payment() fs.FS { return sub("payment") }

// Inventory returns the tables of inventory-svc.
func Inventory() fs.FS { return sub("inventory") }

// Notification returns the tables of notification-svc.
func Notification() fs.FS { return sub("notification") }

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the directories are embedded above; a wrong name is a programming error
	}
	return f
}
