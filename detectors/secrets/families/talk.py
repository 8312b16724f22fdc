"""Chat, mail, telephony and social networks."""

from __future__ import annotations

from detectors.secrets.rules import keyed, shaped

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

RULES = (
    shaped(
        "slack-token",
        "xoxb- xoxp- xoxa- xoxr- xoxs- xoxo- xoxe xoxc- xoxd-",
        r"xox[abposr]-(?:\d-)?(?:\d{8,14}-){1,3}[A-Za-z0-9]{16,64}|xox[eE](?:\.xox[bp])?-\d-[A-Za-z0-9]{100,200}|xox[abprso]-\d{4,14}-[A-Za-z0-9\-]{10,120}|xox[abprs]-[A-Za-z0-9\-]{24,120}|xoxc-(?:\d{8,14}-){2,3}[a-f0-9]{40,64}|xoxd-[A-Za-z0-9%+/=]{60,200}",
    ),
    shaped("slack-app-token", "xapp-", r"xapp-\d-[A-Z0-9]{8,14}-\d{8,16}-[a-f0-9]{50,80}|xapp-[\w\-./]{24,120}"),
    shaped(
        "slack-webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Z0-9]{8,12}/[A-Za-z0-9]{8,24}/[A-Za-z0-9/]{16,60}",
    ),
    keyed("slack-signing-secret", "slack_signing signing_secret", r"[a-f0-9]{32}"),
    shaped("telegram-bot-token", ":aa", r"\d{8,10}:AA[\w\-]{32,34}(?![\w\-])", before=10),
    keyed("telegram-bot-token", "telegram", r"\d{8,10}:[\w\-]{35}(?![\w\-])"),
    shaped(
        "discord-token", "mt mj mz nd nt nj nz od ot", r"[MNO][A-Za-z\d_\-]{23,27}\.[\w\-]{6}\.[\w\-]{27,38}(?![\w\-])"
    ),
    keyed(
        "discord-token",
        "discord",
        r"[MNO][\w\-]{23,27}\.[\w\-]{6}\.[\w\-]{27,38}(?![\w\-])|[A-Za-z0-9_\-]{32}(?![\w\-])",
        entropy=3.5,
    ),
    shaped("discord-webhook", "/api/webhooks/", r"/api/webhooks/\d{17,20}/[\w\-]{60,80}"),
    shaped(
        "teams-webhook",
        "webhook",
        rf"(?:webhook|webhookb2)/{_UUID}@{_UUID}/IncomingWebhook/[a-f0-9]{{32}}/{_UUID}(?:/[\w\-]{{10,60}})?",
    ),
    shaped("twilio-key", "sk", r"SK[0-9a-fA-F]{32}"),
    keyed("twilio-token", "twilio", r"[0-9a-f]{32}|[A-Za-z0-9]{32}", entropy=3.2),
    shaped("sendgrid-key", "sg.", r"SG\.[\w\-]{16,32}\.[\w\-]{16,64}"),
    shaped("sendinblue-key", "xkeysib- xsmtpsib-", r"x(?:keysib|smtpsib)-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    shaped("mailgun-key", "key- pubkey-", r"(?:pub)?key-[0-9a-f]{32}"),
    keyed("mailgun-key", "mailgun", r"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}"),
    shaped("mailchimp-key", "-us", r"[0-9a-f]{32}-us\d{1,2}", before=32),
    shaped("mandrill-key", "md-", r"md-[\w\-]{22}(?![\w\-])", entropy=3.5),
    keyed("mandrill-key", "mandrill", r"[\w\-]{22}(?![\w\-])", entropy=3.5),
    shaped("mailersend-token", "mlsn.", r"mlsn\.[a-f0-9]{64}"),
    shaped("resend-key", "re_", r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,30}"),
    keyed("postmark-token", "postmark", _UUID),
    keyed("sparkpost-key", "sparkpost", r"[a-f0-9]{40}"),
    keyed("messagebird-key", "messagebird", r"[A-Za-z0-9]{25}", entropy=3.2),
    keyed("vonage-secret", "nexmo vonage", r"[A-Za-z0-9]{16}", entropy=3.2),
    keyed("plivo-token", "plivo", r"[A-Za-z0-9]{40}", entropy=3.2),
    keyed("sendbird-token", "sendbird", rf"[a-f0-9]{{40}}|{_UUID}"),
    shaped("facebook-token", "eaa", r"EAA[A-Za-z0-9]{60,400}", entropy=3.5),
    keyed(
        "facebook-secret", "facebook fb_ fbapi fbsecret fbapp fbkey instagram", r"[a-f0-9]{32}|\d{15,16}\|[\w\-]{27}"
    ),
    shaped("instagram-token", "igq iga", r"IG(?:QV|QW|AA)[\w\-]{80,300}"),
    keyed("twitter-secret", "twitter", r"[A-Za-z0-9]{35,50}|\d{6,20}-[A-Za-z0-9]{40}|[A-Za-z0-9]{20,25}", entropy=3.5),
    keyed("twitter-bearer", "twitter bearer", r"A{21,22}[A-Za-z0-9%]{50,120}"),
    keyed(
        "linkedin-secret", "linkedin", r"[A-Za-z0-9]{16}|WPL_AP1\.[A-Za-z0-9]{16}\.[A-Za-z0-9+/=]{6,12}", entropy=3.2
    ),
    shaped("linkedin-secret", "wpl_ap1.", r"WPL_AP1\.[A-Za-z0-9]{16}\.[A-Za-z0-9+/]{6,8}={0,2}"),
    keyed("reddit-secret", "reddit", r"[\w\-]{27,30}(?![\w\-])", entropy=3.5),
    keyed("twitch-secret", "twitch", r"[a-z0-9]{30}", entropy=3.2),
    shaped("twitch-stream-key", "live_", r"live_\d{6,12}_[A-Za-z0-9]{30}"),
    keyed("spotify-secret", "spotify", r"[a-f0-9]{32}"),
    keyed("mattermost-token", "mattermost", r"[a-z0-9]{26}", entropy=3.0),
    keyed("zoom-secret", "zoom", r"[A-Za-z0-9]{32}", entropy=3.5),
    keyed("gitter-token", "gitter", r"[a-f0-9]{40}"),
    keyed("line-token", "line_channel line_notify", r"[A-Za-z0-9+/]{43,172}={0,2}", entropy=3.5),
)
