package message

import (
	"sync"

	"postern.dev/postern/internal/ahocorasick"
)

// What phrases a mail holds; bits of a set.
type said uint8

const (
	saidFailed    said = 1 << iota // mail was not delivered
	saidDelayed                    // it was not delivered yet
	saidForGood                    // it will not be tried again
	saidAway                       // somebody is not there
	saidChallenge                  // the author is to prove himself
)

// failed are the words in which mailers say that mail was not delivered, in whatever
// part of a text.
func failedPhrases() []string {
	return []string{
		"undeliver", "non-deliver", "nondeliver", "not deliver", "unable to deliver", "could not be delivered", "couldn't be delivered", "cannot be delivered", "can't be delivered", "not be delivered",
		"wasn't delivered", "was not delivered", "were not delivered", "not been delivered", "failed to deliver", "delivery failed", "delivery has failed", "delivery failure", "delivery error", "delivery problem", "delivery status", "delivery to the following", "failure delivery", "failed delivery", "failed to send",
		"delivery notification", "delivery report", "mail delivery", "message delivery", "failure notice", "returned mail", "returned to sender", "return to sender", "returning message", "returned message", "returning your", "mail system error", "mail failure", "error sending your mail", "mail error", "mail status report",
		"unable to send", "could not be sent", "cannot be sent", "did not reach", "could not reach", "failed permanently", "permanent error", "permanent failure", "permanent fatal error", "fatal error", "delivery was aborted", "recipients was aborted", "transcript of session", "unsent message", "bounce", "wasn't able to deliver", "unable to transmit", "could not deliver", "couldn't deliver", "cannot deliver",
		"was rejected", "been rejected", "is rejected", "were rejected", "rejected recipient", "rejected by", "message rejected", "mail rejected", "blocked by", "has been blocked", "message blocked", "address(es) failed", "address failed", "addresses failed", "following address", "had delivery errors", "had delivery problems", "have not received", "unknown user", "user unknown", "unknown recipient", "no such user", "invalid user", "mailbox is full", "mailbox full", "over quota", "error message below", "failure reasons", "trouble delivering", "problem delivering", "unable to relay", "recipients were affected", "invalid final delivery", "not a member of this", "not member article", "reject mail", "loop alert", "loop back warning", "duplicated message-id",
		"unzustellbar", "nicht zugestellt", "konnte nicht", "zustellung fehlgeschlagen", "unbekannter empf", "non remis", "non distribu", "n'a pas pu", "n'a pas \u00e9t\u00e9 d", "no se puede entregar", "non recapitabil", "olevererbar", "n\u00e3o entregue", "n'a pu \u00eatre", "\u00e9chec de", "echec de", "impossible de remettre", "no se pudo", "no se ha podido", "no entregado", "no ha podido", "devuelto", "error de entrega", "impossibile recapitare", "mancato recapito", "non \u00e8 stato", "consegna", "n\u00e3o p\u00f4de", "nao pode ser", "n\u00e3o foi", "falha na entrega", "niet bezorgd", "onbestelbaar", "kunde inte", "kunne ikke", "nie dor\u0119czono", "nie mog", "niedostarcz", "zwrot", "\u043d\u0435 \u043c\u043e\u0436\u0435\u0442 \u0431\u044b\u0442\u044c", "\u043d\u0435 \u0434\u043e\u0441\u0442\u0430\u0432\u043b\u0435\u043d", "\u043d\u0435\u0434\u043e\u0441\u0442\u0430\u0432\u043b\u0435\u043d", "\u043d\u0435 \u0443\u0434\u0430\u043b\u043e\u0441\u044c", "\u043d\u0435 \u0431\u044b\u043b\u043e \u0434\u043e\u0441\u0442\u0430\u0432",
		"\u30e1\u30fc\u30eb\u30a8\u30e9\u30fc", "\u9001\u4fe1\u3067\u304d\u307e\u305b\u3093", "\u9001\u4fe1\u306b\u5931\u6557", "\u914d\u4fe1\u3067\u304d\u307e\u305b\u3093", "\u914d\u4fe1\u306b\u5931\u6557", "\u914d\u4fe1\u4e0d\u80fd", "\u5c4a\u3051\u3089\u308c", "\u304a\u5c4a\u3051\u3067\u304d", "\u914d\u9001\u3067\u304d", "\u4e0d\u9054", "\u5b9b\u5148\u4e0d\u660e", "\u898b\u3064\u304b\u3089\u306a\u3044", "\u9000\u4fe1", "\u65e0\u6cd5\u6295\u9012", "\u6295\u9012\u5931\u8d25", "\u9000\u56de", "\ubc18\uc1a1", "\uc804\uc1a1 \uc2e4\ud328",
	}
}

func delayedPhrases() []string {
	return []string{
		"will be retried", "will continue to retry", "will retry", "will keep trying", "continue trying", "keep trying", "still trying", "will try again", "attempts will continue", "continue to attempt", "has been delayed", "is delayed", "delayed mail", "delivery delayed", "delay reason", "message delayed", "warning message only", "this is a warning", "not need to resend", "not need to re-send", "don't need to resend", "not yet been delivered", "not yet delivered", "has not been delivered to", "delivery incomplete", "status notification (delay)", "notification: delayed", "temporarily undeliverable", "temporary failure report", "still in the queue", "still being retried", "still in queue", "wird weiter versucht", "verz\u00f6gert",
		"delayed for", "delay)", "- delayed", "warning: could not send", "warning: message",
	}
}

func forGoodPhrases() []string {
	return []string{
		"permanent error", "permanent failure", "permanent fatal error", "failed permanently", "giving up", "given up", "will not be retried", "will not continue trying", "no further delivery attempts", "no further attempts", "message will be deleted", "could not be delivered for", "will be returned", "i've given up", "retry timeout exceeded", "message expired", "was aborted", "has failed", "final failure", "returning message", "returned to sender", "cannot be delivered", "unable to deliver after", "not be able to deliver",
	}
}

func awayPhrases() []string {
	return []string{
		"out of office", "out of the office", "out-of-office", "ooo:", "automatic reply", "auto reply", "auto-reply", "autoreply", "auto response", "auto-response", "autoresponse", "automated reply", "automated response", "autosvar", "autoresponder", "auto:", "on vacation", "vacation", "annual leave", "maternity leave", "on holiday", "away from my mail", "away from the office", "away from my desk", "currently away", "i am away", "i'm away", "thank you for your email", "thank you for contacting",
		"abwesenheit", "automatische antwort", "nicht im b\u00fcro", "r\u00e9ponse automatique", "reponse automatique", "absence du bureau", "absent du bureau", "respuesta autom\u00e1tica", "respuesta automatica", "fuera de la oficina", "risposta automatica", "fuori ufficio", "resposta autom\u00e1tica", "resposta automatica", "fora do escrit", "automatisch antwoord", "afwezig", "fr\u00e5nvaro", "frav\u00e6r", "automatisk svar", "autosvar", "poissa", "automatyczna odpowied", "\u0430\u0432\u0442\u043e\u043e\u0442\u0432\u0435\u0442", "\u81ea\u52d5\u8fd4\u4fe1", "\u4e0d\u5728", "\u81ea\u52a8\u56de\u590d", "\u81ea\u52a8\u7b54\u590d", "\ubd80\uc7ac",
	}
}

func challengePhrases() []string {
	return []string{
		"confirm your message", "confirm that you sent", "confirm you sent", "confirm that this message", "please confirm your", "confirm delivery of your", "to confirm that you are", "verify your email to", "sender verification", "verify that you are a", "verify you are a human", "prove you are human", "prove that you are human", "not a spammer", "awaiting your verification", "waiting for your confirmation", "pending your confirmation", "held until you", "held pending", "being held because", "spam arrest", "spamarrest", "boxbe", "tmda", "challenge/response", "challenge-response", "approved senders", "approved sender list", "allowed senders", "guest list", "whitelist yourself", "add yourself to", "one-time confirmation", "click the link below to deliver", "to have your message delivered", "authenticate your message", "earthlink spamblocker", "mailblocks", "bluebottle", "spam protection requires", "sendio", "knowspam", "digiportal", "choicemail", "quarantined until",
	}
}

// phraseSet finds all of them in one pass.
var phraseSet = sync.OnceValue(func() *ahocorasick.Automaton {
	var texts []string
	var values []int32
	for _, k := range []struct {
		is    said
		texts []string
	}{{saidFailed, failedPhrases()}, {saidDelayed, delayedPhrases()}, {saidForGood, forGoodPhrases()}, {saidAway, awayPhrases()}, {saidChallenge, challengePhrases()}} {
		for _, t := range k.texts {
			texts, values = append(texts, t), append(values, int32(k.is))
		}
	}
	return ahocorasick.New(texts, values)
})

// heard gives what a text says.
func heard(text string) said {
	var buf [32]int32
	var set said
	for _, v := range ahocorasick.Scan(phraseSet(), text, buf[:0]) {
		set |= said(v)
	}
	return set
}
