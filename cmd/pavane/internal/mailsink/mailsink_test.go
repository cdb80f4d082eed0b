package mailsink_test

import (
	"net/smtp"
	"os"
	"testing"

	"pavane/cmd/pavane/internal/mailsink"
	"pavane/internal/leaks"
)

func TestMain(m *testing.M) { os.Exit(leaks.Main(m.Run)) }

func TestSink_TakesMailFromARealClient(t *testing.T) {
	t.Parallel()
	s, err := mailsink.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := "Message-ID: <1@x>\r\nSubject: order confirmed\r\n\r\nhello\r\n.dotted\r\n"
	if err := smtp.SendMail(s.Addr(), nil, "shop@example.test", []string{"cust-01@example.test"}, []byte(body)); err != nil {
		t.Fatal(err)
	}
	mails, total := s.Mails()
	if total != 1 || mails[0].ID != "<1@x>" || mails[0].To != "cust-01@example.test" || mails[0].Subject != "order confirmed" {
		t.Fatalf("kept %d: %+v", total, mails)
	}
}
