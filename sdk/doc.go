// Package sdk is Forebay's Go client: lookups, pushes and training datasets.
//
// [New] talks to a server over HTTP; [Open] opens a feature repository in
// process, without a server. Both are a [Store], so that code written against one
// runs against the other.
//
//	c, err := sdk.New("http://localhost:6566", sdk.WithTimeout(50*time.Millisecond))
//	res, err := c.Lookup(ctx, sdk.LookupRequest{Service: "delay_model", Entities: []sdk.Entity{{"origin": "SFO"}}})
//	mean, ok := res.Row(0).Float64("delay_mean_24h")
//
// An int64 stays whole on its way, in both directions. Mistakes that the server
// finds are an [*Error] with a stable code.
package sdk
