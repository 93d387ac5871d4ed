#!/bin/sh
# Does my service survive a carrier that fails? Starts the mock, starts the service against it, makes the
# mock fail, and asserts a fallback and a breaker. Needs holdfast on the PATH, curl and a free directory.
set -eu

DIR=$(mktemp -d)
PIDS=
trap 'kill $PIDS 2>/dev/null || true; wait; rm -rf "$DIR"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }

# eventually WHAT COMMAND…: tries it for up to 30 s.
eventually() {
  what=$1; shift; n=0
  until "$@"; do
    n=$((n + 1)); [ $n -lt 300 ] || fail "never: $what"
    sleep 0.1
  done
}

# 1. The mock. It prints its address.
holdfast sim carrier --data "$DIR/mock" > "$DIR/mock.url" & PIDS="$PIDS $!"
eventually "the mock listens" test -s "$DIR/mock.url"
MOCK=$(cat "$DIR/mock.url")

# 2. Your service, with the mock's address in place of the carrier's. Ours stands here for yours: replace
#    these lines, and call, fallback and metric below.
HOLDFAST_SHIPPING__CARRIER_URL=$MOCK HOLDFAST_SHIPPING__RATES_EVERY=100ms \
  holdfast up --quiet --data "$DIR/service" --addr 127.0.0.1:0 --admin-addr 127.0.0.1:0 & PIDS="$PIDS $!"
address() { sed -n "s/.*\"$1\": \"\(.*\)\".*/\1/p" "$DIR/service/addresses.json"; }
ready() { [ -s "$DIR/service/addresses.json" ] && curl -sf "$(address admin)/readyz" > /dev/null; }
eventually "the service is ready" ready
API=$(address api) ADMIN=$(address admin) KEY=$(cat "$DIR/service/dev-api-key")

call() {
  curl -sf "$API/v1/orders" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -H "Idempotency-Key: $1" -d '{"customer_id":"cus_1",
    "currency":"EUR","lines":[{"sku":"TEA-EARL-100","quantity":1}],"payment_method":"tok_ok",
    "shipping_address":{"name":"A","line1":"B","city":"C","postal_code":"10115","country":"DE"}}'
}
# metric SERIES: its value; the labels are those of docs/resilience.md.
metric() { curl -sf "$ADMIN/metrics" | grep "^holdfast_resilience_$1" | sed 's/.* //' | head -n 1; }
is() { [ "$(metric "$1")" = "$2" ]; }
BREAKER='breaker_state{dependency="carrier",operation="rates",.*state="open"'

# 3. All is well: the fee comes from the carrier, the breaker is closed.
call well | grep -q '"shipping":500' || fail "no fee while all is well"
is "$BREAKER" 0 || fail "the breaker is open before anything fails"

# 4. The fault: every answer is 503, for a minute at most; with "rate": 0.5 and a seed it would be the same half each time.
curl -sf -X PUT "$MOCK/faults" -d '{"seed":42,"faults":[{"operation":"rates","status":503,"retry_after":"1s","for":"60s"}]}' > /dev/null

# 5. The breaker opens, and the service goes on with the last known fee.
eventually "the breaker opens" is "$BREAKER" 1
call fallback | grep -q '"shipping":500' || fail "no fallback while the carrier fails"

# 6. A fault that has hit nothing proves nothing.
curl -sf "$MOCK/faults" | grep -q '"hits":[1-9]' || fail "the fault has hit no call"

# 7. Healed: the breaker closes by itself.
curl -sf -X DELETE "$MOCK/faults"
eventually "the breaker closes" is "$BREAKER" 0
echo "holds: the fallback answered, the breaker opened and closed again"
