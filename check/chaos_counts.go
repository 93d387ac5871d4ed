package check

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
)

// counts are what the parts have counted since their start.
type counts struct {
	confirmed    int // orders
	psp, carrier int // requests
	pspAuthorise int
}

func (c *chaos) counts(ctx context.Context) (n counts, err error) {
	at := c.target.Addresses
	var arrivals struct {
		Total       int            `json:"total"`
		ByOperation map[string]int `json:"by_operation"`
	}
	if err := getJSON(ctx, at.PSP+"/arrivals", &arrivals); err != nil {
		return n, err
	}
	n.psp, n.pspAuthorise = arrivals.Total, arrivals.ByOperation["authorise"]
	if err := getJSON(ctx, at.Carrier+"/arrivals", &arrivals); err != nil {
		return n, err
	}
	n.carrier = arrivals.Total
	n.confirmed, err = metric(ctx, at.Admin+"/metrics", `holdfast_orders_reached_total{status="confirmed"}`)
	return n, err
}

// metric reads the series of a name with its labels.
func metric(ctx context.Context, url, series string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			f, err := strconv.ParseFloat(value, 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("%s has no %s", url, series)
}

// machine tells the size of this one.
func machine() string {
	return fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
