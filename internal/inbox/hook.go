package inbox

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds what is read of a request.
const maxBody = 32 << 20

// maxOld is how old a signed request may be: an older one was sent again by somebody.
const maxOld = 15 * time.Minute

// Errors of a request.
var (
	errUnsigned = errors.New("the request does not show the secret")
	errShape    = errors.New("the body is not of the format that it should be")
)

// Hook takes reports by HTTP in the shape of one provider. It answers 200 only when all
// that a request tells is durable: providers send again what is answered otherwise.
type Hook struct {
	Name    string
	Format  string // mail, xarf, ses, sendgrid, mailgun, postmark, sparkpost
	Secret  func() ([]byte, error)
	To      string // address that the reports count as sent to
	Deliver Deliver
	Now     func() time.Time
	Log     *slog.Logger
}

// ServeHTTP implements http.Handler.
func (h *Hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST is wanted", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "cannot be read", http.StatusBadRequest)
		return
	}
	n, err := h.take(r, body)
	switch {
	case err == nil:
		fmt.Fprintf(w, "%d reports\n", n)
	case errors.Is(err, errUnsigned):
		w.Header().Set("WWW-Authenticate", `Basic realm="postern"`)
		h.Log.Warn("report refused", "intake", h.Name, "peer", r.RemoteAddr, "err", err)
		http.Error(w, err.Error(), http.StatusUnauthorized)
	case errors.Is(err, errShape):
		h.Log.Warn("report not understood", "intake", h.Name, "format", h.Format, "err", err)
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		h.Log.Error("report not taken in, the sender is asked to repeat it", "intake", h.Name, "err", err)
		http.Error(w, "cannot be kept now", http.StatusServiceUnavailable)
	}
}

// take verifies, reads and delivers one request.
func (h *Hook) take(r *http.Request, body []byte) (int, error) {
	secret, err := h.Secret()
	if err != nil {
		return 0, err
	}
	if err := h.verify(r, body, secret); err != nil {
		return 0, err
	}
	mails, err := h.mails(body)
	if err != nil {
		return 0, err
	}
	for _, m := range mails {
		if err := h.Deliver(r.Context(), m); err != nil {
			return 0, err
		}
	}
	return len(mails), nil
}

// mails reads what a request tells.
func (h *Hook) mails(body []byte) ([]*Mail, error) {
	if h.Format == "mail" {
		if !LooksLikeMail(body) {
			return nil, fmt.Errorf("%w: no header of a mail", errShape)
		}
		return []*Mail{{Raw: body, To: h.To}}, nil
	}
	read := map[string]func([]byte) ([]*Notice, error){"xarf": readXARF, "ses": h.readSES, "sendgrid": readSendGrid, "mailgun": readMailgun, "postmark": readPostmark, "sparkpost": readSparkPost}[h.Format]
	if read == nil {
		return nil, fmt.Errorf("%w: unknown format %q", errShape, h.Format)
	}
	notices, err := read(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errShape, err)
	}
	var out []*Mail
	for _, n := range notices {
		if n.Time.IsZero() {
			n.Time = n.Date
		}
		out = append(out, n.Mail(h.To))
	}
	return out, nil
}

// verify holds a request against the secret: a signature where the provider signs, else
// the secret itself as bearer token or as password of basic authentication, which every
// provider can be told to send.
func (h *Hook) verify(r *http.Request, body, secret []byte) error {
	switch h.Format {
	case "mailgun":
		return h.verifyMailgun(body, secret)
	case "sendgrid":
		if key := publicKey(secret); key != nil {
			return h.verifySendGrid(r, body, key)
		}
	}
	if sig := r.Header.Get(SignatureHeader); sig != "" {
		if VerifySignature(secret, sig, body, h.Now()) {
			return nil
		}
		return errUnsigned
	}
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer {
		_, given, _ = r.BasicAuth()
	}
	if given != "" && subtle.ConstantTimeCompare([]byte(given), secret) == 1 {
		return nil
	}
	return errUnsigned
}

// verifyMailgun checks the signature inside the body: HMAC-SHA-256 over time and token
// (Mailgun documentation, "Securing Webhooks").
func (h *Hook) verifyMailgun(body, secret []byte) error {
	var v struct {
		Signature struct{ Timestamp, Token, Signature string } `json:"signature"`
	}
	if decode(body, &v) != nil {
		return errUnsigned
	}
	s := v.Signature
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(s.Timestamp + s.Token))
	got, err := hex.DecodeString(s.Signature)
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) || !h.fresh(s.Timestamp) {
		return errUnsigned
	}
	return nil
}

// publicKey reads a verification key of SendGrid: a public key in base64. A secret of
// another form is a shared one.
func publicKey(secret []byte) *ecdsa.PublicKey {
	der, err := base64.StdEncoding.DecodeString(string(secret))
	if err != nil {
		return nil
	}
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil
	}
	e, _ := k.(*ecdsa.PublicKey)
	return e
}

// verifySendGrid checks the signature over time and body (Twilio SendGrid documentation,
// "Event Webhook Security Features").
func (h *Hook) verifySendGrid(r *http.Request, body []byte, key *ecdsa.PublicKey) error {
	at := r.Header.Get("X-Twilio-Email-Event-Webhook-Timestamp")
	sig, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Twilio-Email-Event-Webhook-Signature"))
	if err != nil || len(sig) == 0 || !h.fresh(at) {
		return errUnsigned
	}
	sum := sha256.Sum256(append([]byte(at), body...))
	if !ecdsa.VerifyASN1(key, sum[:], sig) {
		return errUnsigned
	}
	return nil
}

// fresh reports a time in seconds since 1970 that is not long past.
func (h *Hook) fresh(seconds string) bool {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return false
	}
	age := h.Now().Sub(time.Unix(n, 0))
	return age < maxOld && age > -maxOld
}

// SignatureHeader carries Postern's own signature: "t=SECONDS,v1=HEX", where HEX is
// HMAC-SHA-256 over "SECONDS.BODY".
const SignatureHeader = "Postern-Signature"

// Sign makes the value of SignatureHeader.
func Sign(secret, body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(t + "."))
	_, _ = mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// VerifySignature checks what Sign made; one that is older than a quarter of an hour is
// none.
func VerifySignature(secret []byte, value string, body []byte, now time.Time) bool {
	t, _, ok := strings.Cut(strings.TrimPrefix(value, "t="), ",")
	n, err := strconv.ParseInt(t, 10, 64)
	if !ok || err != nil {
		return false
	}
	age := now.Sub(time.Unix(n, 0))
	return age < maxOld && age > -maxOld && hmac.Equal([]byte(value), []byte(Sign(secret, body, time.Unix(n, 0))))
}
