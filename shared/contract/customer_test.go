package contract_test

import (
	"strings"
	"testing"

	"pavane/shared/contract"
)

func TestIsCustomerID_TakesWhatIssuersSend(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		"cust-01", "auth0|5f7c8ec7c33c6c004bbafe82", "Jane.Doe+shop@example.com", "AItOawmwtWwcT0k51BayewNvutrJUqsvl6qs7A4=",
		"_x1", "-dQw4w9WgXcQ", "system:serviceaccount:shop/app", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", strings.Repeat("a", 64),
	} {
		if !contract.IsCustomerID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, id := range []string{
		"", strings.Repeat("a", 65), "a b", "a\x00b", "a\n", `a"b`, "a'b", `a\b`, "<b>", "ü", ".", "..", "../x", "a?b", "a#b", "a%2fb", "a;b", "a,b",
	} {
		if contract.IsCustomerID(id) {
			t.Errorf("%q is taken", id)
		}
	}
}
