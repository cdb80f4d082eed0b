#!/bin/sh
# Has the clock of Postgres jump by two hours, forth or back, and back again. It is
# the one clock that decides anything.
#
# See: forth, orders that are under way meet their deadline and are cancelled; all
#      others go on, and nothing is left waiting for hours.
# Undo: it ends by itself after FOR; Ctrl-C ends it at once.
# Needs: libfaketime (the package faketime of Debian), when the demo starts; the
#        stack of compose brings its own.
#
# Use: chaos/clock.sh
. "$(dirname "$0")/lib.sh"

broken clock
