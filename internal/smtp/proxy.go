package smtp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

var errProxy = errors.New("malformed PROXY header")

const proxyV2 = "\r\n\r\n\x00\r\nQUIT\n"

// readProxy reads a PROXY header, version 1 or 2, and gives the client's address; the
// zero AddrPort where the proxy speaks for itself.
func readProxy(r *bufio.Reader) (netip.AddrPort, error) {
	first, err := r.Peek(1)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if first[0] == '\r' {
		return readProxyV2(r)
	}
	var line []byte
	for len(line) < 108 {
		c, err := r.ReadByte()
		if err != nil {
			return netip.AddrPort{}, err
		}
		if line = append(line, c); c == '\n' {
			return parseProxyV1(string(line))
		}
	}
	return netip.AddrPort{}, errProxy
}

func parseProxyV1(line string) (netip.AddrPort, error) {
	s, ok := strings.CutSuffix(line, "\r\n")
	f := strings.Split(s, " ")
	if !ok || f[0] != "PROXY" || len(f) < 2 {
		return netip.AddrPort{}, errProxy
	}
	if f[1] == "UNKNOWN" {
		return netip.AddrPort{}, nil
	}
	if len(f) != 6 || (f[1] != "TCP4" && f[1] != "TCP6") {
		return netip.AddrPort{}, errProxy
	}
	a, err := netip.ParseAddr(f[2])
	port, err2 := strconv.ParseUint(f[4], 10, 16)
	if err != nil || err2 != nil || a.Zone() != "" || a.Is4() != (f[1] == "TCP4") {
		return netip.AddrPort{}, errProxy
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
}

func readProxyV2(r *bufio.Reader) (netip.AddrPort, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return netip.AddrPort{}, err
	}
	if string(head[:12]) != proxyV2 || head[12]>>4 != 2 {
		return netip.AddrPort{}, errProxy
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if len(body) > 4096 {
		return netip.AddrPort{}, errProxy
	}
	if _, err := io.ReadFull(r, body); err != nil {
		return netip.AddrPort{}, err
	}
	switch {
	case head[12]&15 > 1: // neither LOCAL nor PROXY
		return netip.AddrPort{}, errProxy
	case head[12]&15 == 0 || head[13] == 0: // LOCAL, or of no known family: the proxy's own address stands
		return netip.AddrPort{}, nil
	}
	size := map[byte]int{0x11: 4, 0x21: 16}[head[13]] // TCP over IPv4, over IPv6
	if size == 0 || len(body) < 2*size+4 {
		return netip.AddrPort{}, errProxy
	}
	a, _ := netip.AddrFromSlice(body[:size])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(body[2*size:])), nil
}
