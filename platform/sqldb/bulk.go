package sqldb

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// maxBulk bounds the rows of one statement on SQLite; a power of two.
const maxBulk = 64

// Pieces divides n rows into [from, to), each for one statement. SQLite gets lengths that are powers of two, so that
// few statements are prepared; on PostgreSQL one serves any number.
func (tx *Tx) Pieces(n int) iter.Seq2[int, int] {
	return func(yield func(from, to int) bool) {
		for from, size := 0, maxBulk; from < n; from += size {
			if tx.Dialect() == Postgres {
				size = n
			}
			for size > n-from {
				size /= 2
			}
			if !yield(from, from+size) {
				return
			}
		}
	}
}

// Values returns the rows of an INSERT, of the given number of columns, and the arguments to bind: "VALUES (?,?),(?,?)"
// and args as they are on SQLite, and a query over one array for each column on PostgreSQL. Rows are inserted in their
// order. The values of a column have one type: string, int, int64 or []byte.
func (tx *Tx) Values(columns int, args []any) (text string, bound []any) {
	if tx.Dialect() == SQLite {
		return "VALUES " + Rows(len(args)/columns, columns), args
	}
	bound = make([]any, columns)
	var arrays, names strings.Builder
	for c := range columns {
		array, kind := column(args, c, columns)
		bound[c] = array
		arrays.WriteString("?::" + kind + "[],")
		names.WriteString("c" + strconv.Itoa(c) + ",")
	}
	list := strings.TrimSuffix(names.String(), ",")
	return "SELECT " + list + " FROM unnest(" + strings.TrimSuffix(arrays.String(), ",") + ") WITH ORDINALITY AS v (" + names.String() + "n) ORDER BY n", bound
}

// column collects the values of one column, and names their type.
func column(args []any, c, columns int) (array any, kind string) {
	switch args[c].(type) {
	case string:
		return collect[string](args, c, columns), "text"
	case []byte:
		return collect[[]byte](args, c, columns), "bytea"
	case int64:
		return collect[int64](args, c, columns), "bigint"
	case int:
		return collect[int](args, c, columns), "bigint"
	default:
		panic(fmt.Sprintf("sqldb: a row of an INSERT has a %T", args[c])) // a mistake in the statement
	}
}

func collect[T any](args []any, c, columns int) []T {
	values := make([]T, 0, len(args)/columns)
	for ; c < len(args); c += columns {
		values = append(values, args[c].(T))
	}
	return values
}

// Among returns a condition that holds where the column has one of values, and the arguments to bind. No values: it
// holds nowhere.
func Among[T ~string](tx *Tx, column string, values []T) (condition string, args []any) {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	if tx.Dialect() == Postgres {
		return column + " = ANY(?)", []any{texts}
	}
	args = make([]any, len(texts))
	for i, t := range texts {
		args[i] = t
	}
	return column + " IN " + In(len(args)), args
}
