package smtp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
)

func randomSecret() (s [32]byte) {
	_, _ = rand.Read(s[:]) // it never fails: the runtime ends the process instead
	return s
}

var (
	replyAuthFailed = &Reply{Code: 535, Enhanced: EnhancedCode{5, 7, 8}, Lines: []string{"authentication failed"}}
	replyAuthOK     = &Reply{Code: 235, Enhanced: EnhancedCode{2, 7, 0}, Lines: []string{"authenticated"}}
	replyAuthSyntax = &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 2}, Lines: []string{"cannot decode"}}
)

// cmdAuth authenticates over TLS only (RFC 4954).
func (c *conn) cmdAuth(args string) *Reply {
	s := c.server
	switch {
	case s.Credentials == nil:
		return &Reply{Code: 502, Enhanced: EnhancedCode{5, 5, 1}, Lines: []string{"AUTH is not offered"}}
	case c.peer.TLS == nil:
		return &Reply{Code: 538, Enhanced: EnhancedCode{5, 7, 11}, Lines: []string{"encryption required"}}
	case c.peer.Helo == "" || c.mail || c.peer.AuthUser != "":
		return replySequence
	}
	mechanism, initial, _ := strings.Cut(args, " ")
	var user string
	var failed *Reply
	switch strings.ToUpper(mechanism) {
	case "PLAIN":
		user, failed = c.plain(initial)
	case "SCRAM-SHA-256":
		user, failed = c.scram(initial)
	default:
		return &Reply{Code: 504, Enhanced: EnhancedCode{5, 5, 4}, Lines: []string{"mechanism not offered"}}
	}
	if failed != nil {
		if failed == replyAuthFailed {
			s.Log.Warn("authentication failed", "peer", c.peer.Addr.String(), "mechanism", printable(mechanism))
		}
		return failed
	}
	c.peer.AuthUser = user
	return replyAuthOK
}

// response decodes an initial response, or asks for one.
func (c *conn) response(initial, challenge string) ([]byte, *Reply) {
	if initial == "" {
		if !c.write(&Reply{Code: 334, Lines: []string{challenge}}) || c.w.Flush() != nil {
			c.quit = true
			return nil, replyAuthFailed
		}
		line, bad := c.readCommand()
		if bad != nil || line == nil {
			c.quit = line == nil && bad == nil
			if bad == nil {
				bad = replyAuthFailed
			}
			return nil, bad
		}
		initial = string(line)
		if initial == "*" {
			return nil, &Reply{Code: 501, Enhanced: EnhancedCode{5, 7, 0}, Lines: []string{"cancelled"}}
		}
	}
	if initial == "=" {
		return []byte{}, nil
	}
	b, err := base64.StdEncoding.DecodeString(initial)
	if err != nil {
		return nil, replyAuthSyntax
	}
	return b, nil
}

// plain is RFC 4616. An authorisation identity other than the user is refused.
func (c *conn) plain(initial string) (string, *Reply) {
	b, bad := c.response(initial, "")
	if bad != nil {
		return "", bad
	}
	parts := strings.Split(string(b), "\x00")
	if len(parts) != 3 || (parts[0] != "" && parts[0] != parts[1]) || parts[1] == "" {
		return "", replyAuthFailed
	}
	v, known := c.verifier(parts[1])
	key, err := v.Keys(parts[2])
	if err != nil || subtle.ConstantTimeCompare(key, v.StoredKey) != 1 || !known {
		return "", replyAuthFailed
	}
	return parts[1], nil
}

// verifier gives a user's verifier, or one that nothing matches and that looks the
// same at every try, so that users cannot be told from strangers.
func (c *conn) verifier(user string) (Verifier, bool) {
	if v, ok := c.server.Credentials.Secret(user); ok {
		return v, true
	}
	h := hmac.New(sha256.New, c.server.secret[:])
	h.Write([]byte(user))
	sum := h.Sum(nil)
	return Verifier{Salt: sum[:16], Iterations: 16384, StoredKey: sum, ServerKey: sum}, false
}

// Keys derives the stored key of a password (RFC 5802, section 3).
func (v Verifier) Keys(password string) (stored []byte, err error) {
	salted, err := pbkdf2.Key(sha256.New, password, v.Salt, v.Iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	clientKey := mac(salted, "Client Key")
	sum := sha256.Sum256(clientKey)
	return sum[:], nil
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// NewVerifier makes the verifier of a password.
func NewVerifier(password string, salt []byte, iterations int) (Verifier, error) {
	v := Verifier{Salt: salt, Iterations: iterations}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return v, err
	}
	sum := sha256.Sum256(mac(salted, "Client Key"))
	v.StoredKey, v.ServerKey = sum[:], mac(salted, "Server Key")
	return v, nil
}

// scram is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel
// binding.
func (c *conn) scram(initial string) (string, *Reply) {
	first, bad := c.response(initial, "")
	if bad != nil {
		return "", bad
	}
	gs2, bare, ok := scramHeader(string(first))
	if !ok {
		return "", replyAuthSyntax
	}
	attrs := scramAttributes(bare)
	user, clientNonce := scramName(attrs['n']), attrs['r']
	if user == "" || clientNonce == "" || attrs['m'] != "" {
		return "", replyAuthSyntax
	}
	v, known := c.verifier(user)
	var random [18]byte
	_, _ = rand.Read(random[:])
	nonce := clientNonce + base64.StdEncoding.EncodeToString(random[:])
	serverFirst := "r=" + nonce + ",s=" + base64.StdEncoding.EncodeToString(v.Salt) + ",i=" + strconv.Itoa(v.Iterations)
	final, bad := c.response("", base64.StdEncoding.EncodeToString([]byte(serverFirst)))
	if bad != nil {
		return "", bad
	}
	withoutProof, _, _ := strings.Cut(string(final), ",p=")
	got := scramAttributes(string(final))
	message := bare + "," + serverFirst + "," + withoutProof
	if got['r'] != nonce || got['c'] != base64.StdEncoding.EncodeToString([]byte(gs2)) || !scramProof(v, message, got['p']) || !known {
		return "", replyAuthFailed
	}
	signature := base64.StdEncoding.EncodeToString([]byte("v=" + base64.StdEncoding.EncodeToString(mac(v.ServerKey, message))))
	if _, bad = c.response("", signature); bad != nil {
		return "", bad
	}
	return user, nil
}

// scramProof checks the client's proof against the stored key, in constant time.
func scramProof(v Verifier, message, proof string) bool {
	p, err := base64.StdEncoding.DecodeString(proof)
	if err != nil || len(p) != sha256.Size {
		return false
	}
	signature := mac(v.StoredKey, message)
	for i := range p {
		p[i] ^= signature[i]
	}
	sum := sha256.Sum256(p)
	return subtle.ConstantTimeCompare(sum[:], v.StoredKey) == 1
}

// scramHeader takes the GS2 header off: no channel binding, no other identity.
func scramHeader(s string) (gs2, bare string, ok bool) {
	parts := strings.SplitN(s, ",", 3)
	if len(parts) != 3 || (parts[0] != "n" && parts[0] != "y") || parts[1] != "" {
		return "", "", false
	}
	return parts[0] + "," + parts[1] + ",", parts[2], true
}

func scramAttributes(s string) map[byte]string {
	m := map[byte]string{}
	for f := range strings.SplitSeq(s, ",") {
		if len(f) > 2 && f[1] == '=' {
			m[f[0]] = f[2:]
		}
	}
	return m
}

func scramName(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "=2C", ","), "=3D", "=")
}
