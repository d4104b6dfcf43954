// Package history reads what other mail servers write about the mail they send:
// PowerMTA's accounting files, KumoMTA's log records, the logs of Postfix, Exim and
// Haraka, and a customer's own manifest. It joins the lines of one message and gives a
// Record for each thing that became of a recipient. It takes lines and gives values;
// files, positions and the ledger are its callers' business.
package history
