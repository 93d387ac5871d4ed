// Package shop is the vocabulary of Holdfast: a file per noun (money, orders, stock, payments,
// shipments, events), the kinds of error, the interfaces the services offer one another with their
// contracts, and the seams (Deps) through which clock, randomness, ids, network and files come in.
// It imports the standard library only, and everything else imports it.
package shop
