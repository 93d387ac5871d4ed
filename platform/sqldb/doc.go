// Package sqldb is the one way to a database: SQLite for one machine, PostgreSQL for many, with one SQL
// text for both. A service writes its statements once, with ? for arguments, and this package rebinds
// them, retries what the database wants retried, and says with a *shop.Error of kind Unavailable when the
// database, not the request, is at fault.
//
// On SQLite every Update runs on one writer goroutine, which commits the transactions that wait for it
// together and gives each a savepoint, so that one that fails does not hurt the others. A disk sync then
// pays for many transactions. It follows that the function given to Update must be quick: no network, no
// lock, no channel. On PostgreSQL an Update is a transaction of its own and may be run again;
// a Batcher makes one of commands that come together.
//
// Rules for both, checked on both:
//   - A statement that failed ends its transaction, as it does in PostgreSQL: later statements and the
//     commit return the first error. Use ON CONFLICT where a conflict is expected.
//   - The rows of one query are read or closed before the next statement.
//   - Update and View are not nested on one database.
//   - Times are BIGINT microseconds UTC (Micros, FromMicros), JSON is TEXT and is passed as a string, flags
//     are INTEGER 0 and 1. INTEGER has 32 bits in PostgreSQL: counts and amounts are BIGINT.
//   - Columns by which pages are cut are {{.Text}}, since PostgreSQL sorts TEXT by language. LIKE tells upper
//     from lower case in PostgreSQL only, and a text with a zero byte is refused there only.
package sqldb
