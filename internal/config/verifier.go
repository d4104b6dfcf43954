package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"postern.dev/postern/internal/smtp"
)

// The form of a verifier: "SCRAM-SHA-256$iterations:salt$storedKey:serverKey", the
// last three in base64 (RFC 5803, in the spelling that PostgreSQL uses).
const scramPrefix = "SCRAM-SHA-256$"

var errVerifier = errors.New("not a SCRAM-SHA-256 verifier")

// HashPassword makes the verifier of a password in its text form.
func HashPassword(password string, salt []byte, iterations int) string {
	v, err := smtp.NewVerifier(password, salt, iterations)
	if err != nil {
		return ""
	}
	e := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", scramPrefix, iterations, e(v.Salt), e(v.StoredKey), e(v.ServerKey))
}

// ParseVerifier reads what HashPassword wrote. Its errors never repeat the text.
func ParseVerifier(s string) (v smtp.Verifier, err error) {
	rest, ok := strings.CutPrefix(s, scramPrefix)
	if !ok {
		return v, errVerifier
	}
	first, keys, ok := strings.Cut(rest, "$")
	iterations, salt, ok2 := strings.Cut(first, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	if !ok || !ok2 || !ok3 {
		return v, errVerifier
	}
	if v.Iterations, err = strconv.Atoi(iterations); err != nil || v.Iterations < 4096 || v.Iterations > 10_000_000 {
		return v, errors.New("verifier with fewer than 4096 iterations")
	}
	d := base64.StdEncoding
	var e1, e2, e3 error
	v.Salt, e1 = d.DecodeString(salt)
	v.StoredKey, e2 = d.DecodeString(stored)
	v.ServerKey, e3 = d.DecodeString(server)
	if errors.Join(e1, e2, e3) != nil || len(v.Salt) < 8 || len(v.StoredKey) != 32 || len(v.ServerKey) != 32 {
		return v, errVerifier
	}
	return v, nil
}
