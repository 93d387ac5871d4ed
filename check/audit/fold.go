package audit

import "holdfast/shop"

// This is the order's state machine once more, written from ARCHITECTURE.md and the contracts in shop, so that
// a mistake in the service's own does not judge itself.

// closedMoney tells whether nothing is held or taken, and nothing will be.
func closedMoney(s shop.PaymentStatus) bool {
	switch s {
	case shop.PaymentDeclined, shop.PaymentVoided, shop.PaymentRefunded, shop.PaymentCancelled:
		return true
	}
	return false
}

func closedParcel(s shop.ShipmentStatus) bool {
	return s == shop.ShipmentRejected || s == shop.ShipmentCancelled
}

func closedStock(s shop.ReservationStatus) bool {
	return s == shop.StockRejected || s == shop.StockReleased
}

// status tells which statuses follow from where the steps of an order stand. "" stands for none.
func status(d *orderDoc) shop.OrderStatus {
	pay := d.Order.Payment.Status
	undone := closedStock(d.Stock) && closedMoney(pay) && closedParcel(d.Parcel)
	taken := (d.Stock == shop.StockReserved || d.Stock == shop.StockShipped) &&
		(pay == shop.PaymentAuthorised || pay == shop.PaymentCaptured) &&
		(d.Parcel == shop.ShipmentScheduled || d.Parcel == shop.ShipmentDispatched)
	ended := shop.Rejected
	if d.Undo != "" && d.Undo != shop.ReasonReservationExpired {
		ended = shop.Cancelled
	}
	switch {
	case pay == shop.PaymentNeedsAttention, d.Parcel == shop.ShipmentNeedsAttention:
		return shop.NeedsAttention
	case d.Undo != "" && undone:
		return ended
	case d.Undo == "" && (d.Stock == shop.StockRejected || pay == shop.PaymentDeclined && d.Stock == shop.StockReleased || undone && d.Parcel == shop.ShipmentRejected):
		return shop.Rejected
	case d.Undo == "" && taken && d.Stock == shop.StockShipped && pay == shop.PaymentCaptured && d.Parcel == shop.ShipmentDispatched:
		return shop.Fulfilled
	case d.Stuck:
		return shop.NeedsAttention
	case d.Undo != "" && ended == shop.Cancelled:
		return shop.Cancelling
	case d.Undo == "" && taken:
		return shop.Confirmed
	default:
		return shop.Pending
	}
}

// ended tells whether the steps allow the end that an order has come to. What follows an early end changes
// steps that were not waited for, so this asks for less than status does.
func ended(d *orderDoc) bool {
	pay := d.Order.Payment.Status
	switch d.Order.Status {
	case shop.Fulfilled:
		return d.Stock == shop.StockShipped && pay == shop.PaymentCaptured && d.Parcel == shop.ShipmentDispatched
	case shop.Cancelled:
		return d.Undo != "" && d.Undo != shop.ReasonReservationExpired && closedStock(d.Stock) && d.Parcel != shop.ShipmentDispatched
	default:
		return closedStock(d.Stock) && d.Parcel != shop.ShipmentDispatched
	}
}

// shown is a payment's state as its events say it; "" for one that they do not say.
func shown(s shop.PaymentStatus) string {
	switch s {
	case "authorising", "capturing", "voiding", "refunding":
		return ""
	}
	return string(s)
}

func shownParcel(s shop.ShipmentStatus) string {
	if s == "scheduling" || s == "cancelling" {
		return ""
	}
	return string(s)
}
