package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"pavane/cmd/pavane/internal/authority"
	"pavane/cmd/pavane/internal/stack"
	"pavane/shared/identity"
)

// pageLife is how long the page may be used with the token of its address.
const pageLife = 24 * time.Hour

func tokenCommand() *cobra.Command {
	var dir, subject, scope string
	var life time.Duration
	c := &cobra.Command{
		Use:   "token",
		Short: "Print a token for a demo that runs with --auth",
		Long: fmt.Sprintf(`Prints a token of the demo's own authority, to show as "Authorization: Bearer …".
Its subject is the customer who orders. The scopes are %s, for the
orders of others, and %s, to act for others and on the system.

  curl -H "Authorization: Bearer $(pavane token --subject cust-01)" URL/v1/orders`, identity.ScopeRead, identity.ScopeOperate),
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if life <= 0 {
				return fmt.Errorf("token: --for %s: want a time above 0", life)
			}
			s, err := stack.Load(dir)
			if err != nil {
				return err
			}
			if s.Authority == "" {
				return fmt.Errorf("token: the demo in %s asks for no tokens: start it with `pavane up --auth`", dir)
			}
			a, err := authority.Load(s.Authority)
			if err != nil {
				return err
			}
			token, err := a.Token(subject, scope, life)
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), token)
			}
			return err
		},
	}
	c.Flags().StringVar(&dir, "dir", stack.DefaultDir(), "directory of the running `pavane up`")
	c.Flags().StringVar(&subject, "subject", "cust-01", "who shows it: a customer's id")
	c.Flags().StringVar(&scope, "scope", "", "scopes, with spaces between them; empty: the subject's own orders alone")
	c.Flags().DurationVar(&life, "for", time.Hour, "how long it is good for")
	return c
}
