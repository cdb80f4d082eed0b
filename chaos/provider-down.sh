#!/bin/sh
# Takes the card provider down.
#
# See: orders paid by card wait, or are cancelled at their deadline; the others go on.
# Undo: it ends by itself after FOR; Ctrl-C ends it at once.
#
# Use: chaos/provider-down.sh
. "$(dirname "$0")/lib.sh"

broken provider
