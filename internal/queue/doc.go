// Package queue delivers what was accepted: it schedules and retries, keeps the
// limits of destinations and pools, holds what the relay guard or a containment
// stops, and tells senders what could not be delivered. Every outcome becomes durable
// together with its ledger event.
package queue
