"""Messages of `proto/sluice/agent/v1/report.proto`. Written by `make proto`: change that file, not this one."""

from __future__ import annotations

from base64 import b64decode

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

DESCRIPTOR = DescriptorPool().AddSerializedFile(
    b64decode(
        "ChxzbHVpY2UvYWdlbnQvdjEvcmVwb3J0LnByb3RvEg9zbHVpY2UuYWdlbnQudjEi8QEKDEFnZW50TWVzc2FnZRI3CghyZWdpc3Rl"
        "chgBIAEoCzIZLnNsdWljZS5hZ2VudC52MS5SZWdpc3RlckgAUghyZWdpc3RlchIrCgRsb2FkGAIgASgLMhUuc2x1aWNlLmFnZW50"
        "LnYxLkxvYWRIAFIEbG9hZBI6CgloZWFydGJlYXQYAyABKAsyGi5zbHVpY2UuYWdlbnQudjEuSGVhcnRiZWF0SABSCWhlYXJ0YmVh"
        "dBI0Cgdnb29kYnllGAQgASgLMhguc2x1aWNlLmFnZW50LnYxLkdvb2RieWVIAFIHZ29vZGJ5ZUIJCgdtZXNzYWdlIloKDkdhdGV3"
        "YXlNZXNzYWdlEj0KCnJlZ2lzdGVyZWQYASABKAsyGy5zbHVpY2UuYWdlbnQudjEuUmVnaXN0ZXJlZEgAUgpyZWdpc3RlcmVkQgkK"
        "B21lc3NhZ2UizgEKCFJlZ2lzdGVyEhIKBHBvb2wYASABKAlSBHBvb2wSGAoHYWRkcmVzcxgCIAEoCVIHYWRkcmVzcxI9CgZsYWJl"
        "bHMYAyADKAsyJS5zbHVpY2UuYWdlbnQudjEuUmVnaXN0ZXIuTGFiZWxzRW50cnlSBmxhYmVscxIaCghpbnN0YW5jZRgEIAEoCVII"
        "aW5zdGFuY2UaOQoLTGFiZWxzRW50cnkSEAoDa2V5GAEgASgJUgNrZXkSFAoFdmFsdWUYAiABKAlSBXZhbHVlOgI4ASLsBAoETG9h"
        "ZBIWCgZlbmdpbmUYASABKAlSBmVuZ2luZRIdCgdydW5uaW5nGAIgASgBSABSB3J1bm5pbmeIAQESHQoHd2FpdGluZxgDIAEoAUgB"
        "Ugd3YWl0aW5niAEBEh4KCGt2X3VzYWdlGAQgASgBSAJSB2t2VXNhZ2WIAQESMwoTcHJvbXB0X3Rva2Vuc190b3RhbBgFIAEoAUgD"
        "UhFwcm9tcHRUb2tlbnNUb3RhbIgBARI5ChZnZW5lcmF0ZWRfdG9rZW5zX3RvdGFsGAYgASgBSARSFGdlbmVyYXRlZFRva2Vuc1Rv"
        "dGFsiAEBEiUKDHByb21wdF9wZXJfcxgHIAEoAUgFUgpwcm9tcHRQZXJTiAEBEisKD2dlbmVyYXRlZF9wZXJfcxgIIAEoAUgGUg1n"
        "ZW5lcmF0ZWRQZXJTiAEBEiIKCmJsb2NrX3NpemUYCSABKAFIB1IJYmxvY2tTaXpliAEBEiIKCm51bV9ibG9ja3MYCiABKAFICFIJ"
        "bnVtQmxvY2tziAEBEjoKCGFkYXB0ZXJzGAsgASgLMhkuc2x1aWNlLmFnZW50LnYxLkFkYXB0ZXJzSAlSCGFkYXB0ZXJziAEBQgoK"
        "CF9ydW5uaW5nQgoKCF93YWl0aW5nQgsKCV9rdl91c2FnZUIWChRfcHJvbXB0X3Rva2Vuc190b3RhbEIZChdfZ2VuZXJhdGVkX3Rv"
        "a2Vuc190b3RhbEIPCg1fcHJvbXB0X3Blcl9zQhIKEF9nZW5lcmF0ZWRfcGVyX3NCDQoLX2Jsb2NrX3NpemVCDQoLX251bV9ibG9j"
        "a3NCCwoJX2FkYXB0ZXJzImMKCEFkYXB0ZXJzEhgKB3J1bm5pbmcYASADKAlSB3J1bm5pbmcSGAoHd2FpdGluZxgCIAMoCVIHd2Fp"
        "dGluZxIZCgVsaW1pdBgDIAEoAUgAUgVsaW1pdIgBAUIICgZfbGltaXQiCwoJSGVhcnRiZWF0IiEKB0dvb2RieWUSFgoGcmVhc29u"
        "GAEgASgJUgZyZWFzb24ibgoKUmVnaXN0ZXJlZBIsChJyZXBvcnRfaW50ZXJ2YWxfbXMYASABKA1SEHJlcG9ydEludGVydmFsTXMS"
        "MgoVaGVhcnRiZWF0X2ludGVydmFsX21zGAIgASgNUhNoZWFydGJlYXRJbnRlcnZhbE1zMlwKDEFnZW50U2VydmljZRJMCgZSZXBv"
        "cnQSHS5zbHVpY2UuYWdlbnQudjEuQWdlbnRNZXNzYWdlGh8uc2x1aWNlLmFnZW50LnYxLkdhdGV3YXlNZXNzYWdlKAEwAWIGcHJv"
        "dG8z"
    )
)
Adapters = GetMessageClass(DESCRIPTOR.message_types_by_name["Adapters"])
AgentMessage = GetMessageClass(DESCRIPTOR.message_types_by_name["AgentMessage"])
GatewayMessage = GetMessageClass(DESCRIPTOR.message_types_by_name["GatewayMessage"])
Goodbye = GetMessageClass(DESCRIPTOR.message_types_by_name["Goodbye"])
Heartbeat = GetMessageClass(DESCRIPTOR.message_types_by_name["Heartbeat"])
Load = GetMessageClass(DESCRIPTOR.message_types_by_name["Load"])
Register = GetMessageClass(DESCRIPTOR.message_types_by_name["Register"])
Registered = GetMessageClass(DESCRIPTOR.message_types_by_name["Registered"])
