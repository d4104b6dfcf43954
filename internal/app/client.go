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
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.socket, err)
	}
	if resp.StatusCode >= 300 {
		return refusal(resp, b)
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

// Send sends what r gives as it comes, and decodes the answer into out.
func (c *Client) Send(ctx context.Context, path string, query url.Values, r io.Reader, out any) error {
	resp, err := c.stream(ctx, http.MethodPost, path, query, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read answer of %s: %w", c.socket, err)
	}
	return nil
}

// Copy writes the answer to w as it comes. Where the node ends it with a trailer of that
// name, its value is given; without it, the answer broke off.
func (c *Client) Copy(ctx context.Context, path string, query url.Values, w io.Writer, trailer string) (string, error) {
	resp, err := c.stream(ctx, http.MethodGet, path, query, http.NoBody)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return "", fmt.Errorf("read answer of %s: %w", c.socket, err)
	}
	end := resp.Trailer.Get(trailer)
	if end == "" {
		return "", fmt.Errorf("read answer of %s: it broke off; the node's log says why", c.socket)
	}
	return end, nil
}

// stream makes a request and gives its answer, which the caller closes.
func (c *Client) stream(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://postern"+path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, refusal(resp, b)
	}
	return resp, nil
}

// unreachable tells a node that does not answer from other faults.
func (c *Client) unreachable(err error) error {
	var op *net.OpError
	if errors.As(err, &op) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("connect to %s: %w", c.socket, ErrNotRunning)
	}
	return err
}

// refusal reads why the node refused.
func refusal(resp *http.Response, b []byte) error {
	e := &RemoteError{Status: resp.StatusCode}
	if json.Unmarshal(b, &e.Failure) != nil || e.Failure.Error == "" {
		e.Failure.Error = fmt.Sprintf("the node answered %s", resp.Status)
		if text := strings.TrimSpace(string(b)); resp.StatusCode == http.StatusServiceUnavailable && text != "" {
			e.Failure.Error = "the node is not ready: " + text
		}
	}
	return e
}
