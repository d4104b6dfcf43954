// Package lab is a small Internet on loopback: a DNS, mailbox providers that accept,
// grey-list, refuse, throttle and complain, customers' applications, and a spammer. It
// is the outside world of tests and of the demonstration, and knows nothing of the
// gateway but its addresses.
//
// Addresses: 127.53.0.1 the DNS; 127.25.0.x the providers' MX hosts and 127.25.1.x the
// hosts that their complaints come from; 127.10.x.0/24 customers; 127.66.0.x strangers;
// 127.20.0.x is left for the gateway, 127.21.0.x and 127.22.0.x for its pools. All
// SMTP hosts of the lab listen on one port, which the lab chooses.
package lab
