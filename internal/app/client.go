package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// ErrNotRunning tells that no node answers at the socket.
var ErrNotRunning = errors.New("no node answers")

// RemoteError is what the node said when it refused.
type RemoteError struct {
	Status int
	Failure
}

// Error implements error.
func (e *RemoteError) Error() string { return e.Failure.Error }

// Client talks to a running node over its admin socket.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a client for the socket at a path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Get asks for path with a query and decodes the answer into out. An out of type
// *[]byte takes the body as it is.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// Post sends in as JSON and decodes the answer into out.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, body, out)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://postern"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) || errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("connect to %s: %w", c.socket, ErrNotRunning)
		}
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.socket, err)
	}
	if resp.StatusCode >= 300 {
		e := &RemoteError{Status: resp.StatusCode}
		if json.Unmarshal(b, &e.Failure) != nil || e.Failure.Error == "" {
			e.Failure.Error = fmt.Sprintf("the node answered %s", resp.Status)
			if text := strings.TrimSpace(string(b)); resp.StatusCode == http.StatusServiceUnavailable && text != "" {
				e.Failure.Error = "the node is not ready: " + text
			}
		}
		return e
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(b, out)
}
