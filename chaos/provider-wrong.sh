#!/bin/sh
# Has the card provider fail, before and after it charged, lose its answers, answer late, twice or what nobody can read.
#
# See: it is asked what came of a call before anything is asked again; each confirmed order is charged once.
# Undo: it ends by itself after FOR; Ctrl-C ends it at once.
#
# Use: chaos/provider-wrong.sh
. "$(dirname "$0")/lib.sh"

broken provider-wrong
