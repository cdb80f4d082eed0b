package config_test

import (
	"fmt"
	"os"
	"time"

	"pavane/shared/config"
)

func ExampleLoad() {
	type settings struct {
		HTTPAddr string        `default:"127.0.0.1:8080" desc:"host:port to listen on"`
		Patience time.Duration `default:"5s" desc:"how long to wait for an answer"`
		Key      string        `secret:"true" desc:"key of the gossip"`
	}
	os.Setenv("EXAMPLE_PATIENCE", "250ms")
	os.Setenv("EXAMPLE_KEY", "do not tell")

	var s settings
	if err := config.Load("EXAMPLE", &s); err != nil {
		fmt.Println(err)
		return
	}
	attrs, _ := config.Dump("EXAMPLE", &s)
	for _, a := range attrs {
		fmt.Println(a)
	}
	// Output:
	// EXAMPLE_HTTP_ADDR=127.0.0.1:8080
	// EXAMPLE_PATIENCE=250ms
	// EXAMPLE_KEY=********
}

func ExampleHelp() {
	type settings struct {
		HTTPAddr string `default:":8080" desc:"host:port to listen on"`
		Database string `required:"true" secret:"true" desc:"URL of the database"`
	}
	text, _ := config.Help("EXAMPLE", &settings{})
	fmt.Print(text)
	// Output:
	// EXAMPLE_HTTP_ADDR  string  default :8080                       host:port to listen on
	// EXAMPLE_DATABASE   string  required, or EXAMPLE_DATABASE_FILE  URL of the database
}
