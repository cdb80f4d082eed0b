package broker

import (
	"context"
	"net"
)

// WrapConnections puts wrap around every connection the client opens from now
// on.
func (c *Client) WrapConnections(wrap func(net.Conn) net.Conn) {
	dial := c.transport.Dial
	c.transport.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return wrap(conn), nil
	}
}
