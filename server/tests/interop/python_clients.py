"""Sends real messages with smtplib and fetches them with poplib, and compares octet by octet.

Called by interop.rs with the ports and the certificate. Messages: those of Python's own email tests where this Python
has them, and some that are hard: 8-bit, long lines, leading dots, many parts, 25 MB.
"""

import argparse
import email.message
import email.policy
import glob
import os
import poplib
import smtplib
import ssl
import sys

# The standard library refuses lines over 2048 octets; the server has no such lines, but its messages may.
poplib._MAXLINE = 1 << 20


def messages():
    hard = [
        b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n",
        b"Subject: long\r\n\r\n" + b"x" * 998 + b"\r\n",
        "Subject: 8bit\r\n\r\nGr\u00fc\u00dfe \U0001f4ee\r\n".encode(),
        b"Subject: no body\r\n\r\n",
        b"No header at all, only text\r\nand more\r\n",
    ]
    parts = email.message.EmailMessage()
    parts["From"], parts["To"], parts["Subject"] = "tom@server1.com", "anna@server1.com", "Anhänge"
    parts.set_content("Siehe Anhang.\n" * 50)
    parts.add_attachment(bytes(range(256)) * 400, maintype="application", subtype="octet-stream", filename="a.bin")
    hard.append(parts.as_bytes(policy=email.policy.SMTP))
    for path in sorted(glob.glob(os.path.join(python_test_data(), "msg_*.txt"))):
        with open(path, "rb") as file:
            text = b"\r\n".join(file.read().replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
        # What DATA cannot carry is not sent: NUL, and lines over 998 octets (RFC 5321 section 4.5.3.1.6).
        if b"\0" not in text and max(map(len, text.split(b"\r\n"))) <= 998 and text.strip():
            hard.append(text if text.endswith(b"\r\n") else text + b"\r\n")
    return hard


def python_test_data():
    try:
        import test.test_email as package
    except ImportError:
        return "/nonexistent"
    return os.path.join(os.path.dirname(package.__file__), "data")


def large(octets):
    message = email.message.EmailMessage()
    message["From"], message["To"], message["Subject"] = "tom@server1.com", "anna@server1.com", "large"
    message.set_content("An attachment.")
    message.add_attachment(os.urandom(octets * 3 // 4), maintype="application", subtype="zip", filename="large.zip")
    return message.as_bytes(policy=email.policy.SMTP)


def send(context, texts, port, implicit):
    kind = smtplib.SMTP_SSL if implicit else smtplib.SMTP
    extra = {"context": context} if implicit else {}
    with kind("localhost", port, timeout=60, **extra) as client:
        if not implicit:
            client.starttls(context=context)
        client.login("tom@server1.com", "tom-password")
        for text in texts:
            client.sendmail("tom@server1.com", ["anna@server1.com"], text, ["BODY=8BITMIME"])


def fetch(arguments, context, implicit):
    if implicit:
        client = poplib.POP3_SSL("localhost", arguments.pop3s, timeout=60, context=context)
    else:
        client = poplib.POP3("localhost", arguments.pop3, timeout=60)
        client.stls(context=context)
    client.user("anna@server1.com")
    client.pass_("anna-password")
    count, octets = client.stat()
    assert count == len(client.list()[1]) == len(client.uidl()[1])
    texts = []
    for number in range(1, count + 1):
        text = b"".join(line + b"\r\n" for line in client.retr(number)[1])
        assert len(text) == int(client.list(number).split()[2])
        texts.append(text)
    assert sum(map(len, texts)) == octets
    for number in range(1, count + 1):
        client.dele(number)
    client.quit()
    return texts


def compare(fetched, sent):
    assert len(fetched) == len(sent), (len(fetched), len(sent))
    for number, (got, expected) in enumerate(zip(fetched, sent)):
        assert got.endswith(expected), f"message {number} differs: {got[:2000]!r}"
        trace = got[: len(got) - len(expected)]
        assert trace.startswith(b"Return-Path: <tom@server1.com>\r\nReceived: "), trace


def main():
    parser = argparse.ArgumentParser()
    for port in ["submission", "submissions", "pop3", "pop3s"]:
        parser.add_argument(f"--{port}", type=int, required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--large", type=int)
    arguments = parser.parse_args()
    context = ssl.create_default_context(cafile=arguments.certificate)
    texts = [large(arguments.large)] if arguments.large else messages()
    half = len(texts) // 2
    send(context, texts[:half], arguments.submission, False)
    send(context, texts[half:], arguments.submissions, True)
    compare(fetch(arguments, context, implicit=bool(arguments.large)), texts)
    print(f"{len(texts)} messages, {sum(map(len, texts))} octets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
