package queue

import "postern.dev/postern/internal/egress"

// security is what a recipient's destination is to be protected with; nil for what
// nothing is said of. A site's connections carry mail of many domains, and each domain
// has a say.
func (d *delivery) security() *egress.Security {
	if d.rt.TLS == nil || d.r.Inside != "" {
		return nil
	}
	return d.rt.TLS(d.domain())
}

// secure takes leave of a connection that is less protected than the next mail demands.
func (w *worker) secure(s *egress.Security) {
	if w.conn != nil && !w.conn.Meets(s) {
		_ = w.conn.Quit()
		w.conn = nil
	}
}
