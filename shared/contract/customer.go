package contract

import "regexp"

// CustomerForm says in words what IsCustomerID takes.
const CustomerForm = "1 to 64 characters of A-Z, a-z, 0-9 and . _ - | @ + : / =, the first one no dot"

// customerForm is what issuers of tokens put into sub, such as auth0|5f7c, an
// e-mail address or a UUID. The first one is no dot, so that no id is a step of
// a path.
var customerForm = regexp.MustCompile(`^[A-Za-z0-9_|@+:/=-][A-Za-z0-9._|@+:/=-]{0,63}$`)

// IsCustomerID tells whether id may be a customer's.
func IsCustomerID(id string) bool { return customerForm.MatchString(id) }
