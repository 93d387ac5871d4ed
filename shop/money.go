package shop

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Currency is an ISO 4217 code in capitals.
type Currency string

// exponents holds the currencies of ISO 4217 that circulate, with the digits after the decimal point
// (ISO 4217:2015, list one). Funds, metals and test codes are left out on purpose.
var exponents = currencyTable()

func currencyTable() map[Currency]int {
	t := make(map[Currency]int, 160)
	for exp, codes := range map[int]string{
		0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
		2: "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW",
		3: "BHD IQD JOD KWD LYD OMR TND",
	} {
		for _, c := range strings.Fields(codes) {
			t[Currency(c)] = exp
		}
	}
	return t
}

// Exponent returns the number of digits after the decimal point, and whether the currency is known.
func (c Currency) Exponent() (int, bool) {
	e, ok := exponents[c]
	return e, ok
}

// ErrOverflow is returned where a sum or product of money does not fit 64 bits.
var ErrOverflow = errors.New("amount does not fit 64 bits")

// Amount is money in minor units of a currency that stands beside it. It is never a float.
type Amount int64

// Plus returns a + b, or ErrOverflow.
func (a Amount) Plus(b Amount) (Amount, error) {
	s := a + b
	if (s > a) != (b > 0) && b != 0 {
		return 0, ErrOverflow
	}
	return s, nil
}

// Times returns a * n for n >= 0, or ErrOverflow.
func (a Amount) Times(n int64) (Amount, error) {
	if n < 0 {
		return 0, fmt.Errorf("quantity %d is negative", n)
	}
	abs := uint64(a)
	if a < 0 {
		abs = -abs
	}
	hi, lo := bits.Mul64(abs, uint64(n))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, ErrOverflow
	}
	if a < 0 {
		return -Amount(lo), nil
	}
	return Amount(lo), nil
}

// Format writes the amount as people read it: Amount(1400).Format("EUR") is "14.00 EUR". An unknown
// currency is written in minor units.
func (a Amount) Format(c Currency) string {
	exp, _ := c.Exponent()
	digits := strconv.FormatUint(magnitude(a), 10)
	if exp > 0 {
		if len(digits) <= exp {
			digits = strings.Repeat("0", exp+1-len(digits)) + digits
		}
		digits = digits[:len(digits)-exp] + "." + digits[len(digits)-exp:]
	}
	if a < 0 {
		digits = "-" + digits
	}
	return digits + " " + string(c)
}

func magnitude(a Amount) uint64 {
	if a < 0 {
		return -uint64(a)
	}
	return uint64(a)
}
