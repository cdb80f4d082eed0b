package registry

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"pavane/internal/devstack"
)

// tap stands before the gossip port of a member, passes everything on and keeps
// a copy, as somebody on the network between the members could.
type tap struct {
	addr, to string

	mu    sync.Mutex
	bytes bytes.Buffer
	conns []io.Closer
	work  sync.WaitGroup
}

// listenBoth takes a port that is free for streams and for packets.
func listenBoth(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		tcp.Close() // somebody has the port for packets
	}
}

// freePort is an address that nobody else is given.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := devstack.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// newTap listens on a free port and passes on to the member at to.
func newTap(t *testing.T, to string) *tap {
	t.Helper()
	tcp, udp := listenBoth(t)
	p := &tap{addr: tcp.Addr().String(), to: to, conns: []io.Closer{tcp, udp}}
	p.work.Go(func() { p.streams(tcp) })
	p.work.Go(func() { p.packets(udp) })
	t.Cleanup(func() {
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.work.Wait()
	})
	return p
}

// Write keeps what passes.
func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes.Write(b)
}

func (p *tap) heard() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.bytes.Bytes())
}

func (p *tap) closeLater(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, c)
}

func (p *tap) streams(from net.Listener) {
	for {
		in, err := from.Accept()
		if err != nil {
			return
		}
		out, err := net.DialTimeout("tcp", p.to, time.Second)
		if err != nil {
			in.Close()
			continue
		}
		p.closeLater(in)
		p.closeLater(out)
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			p.work.Go(func() {
				io.Copy(pair[1], io.TeeReader(pair[0], p))
				pair[1].Close()
			})
		}
	}
}

// packets passes those to the member on. Answers go straight to the advertised
// address of whoever asked, which is a tap, too.
func (p *tap) packets(from net.PacketConn) {
	to, err := net.ResolveUDPAddr("udp", p.to)
	if err != nil {
		return
	}
	b := make([]byte, 64<<10)
	for {
		n, _, err := from.ReadFrom(b)
		if err != nil {
			return
		}
		p.Write(b[:n])
		if _, err := from.WriteTo(b[:n], to); err != nil {
			return
		}
	}
}
