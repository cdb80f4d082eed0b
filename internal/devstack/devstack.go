// Package devstack owns the servers that the embedded stack runs on: Postgres, a Kafka-protocol broker
// inside this process, and a real Apache Kafka without containers. `pavane up`, the test helpers and CI
// start them through here. Nothing in it is meant for production.
//
// Every server process is a direct child with a death signal, so that a kill -9 of its starter takes it
// along on Linux; elsewhere, and for whatever slips through, the next start on the same directory ends
// the leftover first. A directory belongs to one starter at a time, held by a file lock.
package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// loopback is the only address that servers of the embedded stack listen on.
const loopback = "127.0.0.1"

// portSteps is how many ports above a wanted one are tried before any free port is taken.
const portSteps = 100

// FreePort returns a loopback TCP port on which nothing listens: want itself when it is free, else the next
// free one above it (up to 100 further), else any. want = 0 asks for any: on Linux nobody else of this user who asks
// for any gets that one while this process lives. Others may: a server must be ready to find its port taken.
func FreePort(want int) (int, error) {
	l, err := listenFree(want)
	if err != nil {
		return 0, err
	}
	return portOf(l), l.Close()
}

// listenFree listens on such a port, so that nobody can take it any more.
func listenFree(want int) (net.Listener, error) {
	if want > 0 {
		for port := want; port <= min(want+portSteps, 65535); port++ {
			if l, err := listen(port); err == nil {
				return l, nil
			}
		}
	}
	err := errors.New("others have reserved all that were tried")
	for range portSteps {
		port := lowest + rand.IntN(beyond-lowest)
		if !reserve(port) {
			continue
		}
		var l net.Listener
		if l, err = listen(port); err == nil {
			return l, nil
		}
	}
	return nil, fmt.Errorf("find a free port on %s: %w", loopback, err)
}

// Any free port is one from here: below the ports that systems give to outgoing
// connections (from 32768 on by Linux). One of those could be gone when its
// server, or the server that is started again in its place, comes to bind it.
const lowest, beyond = 15000, 30000

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// CacheDir returns the directory for what is fetched once per user: "pavane" below the user's cache
// directory, or below the temporary directory where the user has none.
func CacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), ownTempName())
	}
	return filepath.Join(base, "pavane")
}

// report tells progress to f when there is one.
func report(f func(string), format string, args ...any) {
	if f != nil {
		f(fmt.Sprintf(format, args...))
	}
}
