package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"syscall"

	"pavane/shared/identity"
)

// gatewaySvc is the gateway's own name, as who calls the others.
const gatewaySvc = "gateway-svc"

// within is the Control of a dialer that connects to addresses of the networks
// alone. It is asked after names were resolved, about the address that is dialled.
// Without networks it lets all pass.
func within(networks []netip.Prefix) func(network, address string, _ syscall.RawConn) error {
	if len(networks) == 0 {
		return nil
	}
	return func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%s is no address", address)
		}
		for _, n := range networks {
			if n.Contains(at.Addr().Unmap().WithZone("")) {
				return nil
			}
		}
		return fmt.Errorf("%s is outside of the networks in which services may be", at.Addr())
	}
}

// sign puts the token for one call into a request: for whom it is, and what that
// one may do. What the client itself has shown never goes on.
func (u *upstream) sign(ctx context.Context, req *http.Request, service string) error {
	if u.keys == nil {
		return nil
	}
	p, _ := identity.From(ctx)
	p.Caller = gatewaySvc
	token, err := u.keys.Sign(service, p)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return nil
}
