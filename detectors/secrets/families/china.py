"""Chinese clouds, model providers and office platforms."""

from __future__ import annotations

from detectors.secrets.rules import keyed, shaped

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

RULES = (
    shaped("alibaba-access-key-id", "ltai", r"LTAI[A-Za-z0-9]{12,26}"),
    shaped("alibaba-sts-key-id", "sts.n", r"STS\.N[A-Za-z0-9]{20,30}"),
    keyed(
        "alibaba-access-key-secret",
        "aliyun alibaba access_key_secret accesskeysecret accesskey_secret access-key-secret oss_ alicloud ak/sk",
        r"[A-Za-z0-9]{30}",
        entropy=3.5,
    ),
    shaped("tencent-secret-id", "akid", r"AKID[A-Za-z0-9]{32,48}"),
    keyed(
        "tencent-secret-key",
        "tencent qcloud secretkey secret_key cos_secret",
        r"[A-Za-z0-9]{32}(?![A-Za-z0-9/+=])",
        entropy=3.2,
    ),
    shaped("baidu-cloud-key", "bce-v3/", r"bce-v3/ALTAK-[A-Za-z0-9]{21}/[a-f0-9]{40}"),
    shaped("baidu-cloud-key", "altak", r"ALTAK-?[A-Za-z0-9]{21}"),
    keyed(
        "baidu-cloud-key",
        "baidu bce_ qianfan ernie wenxin",
        r"[a-f0-9]{32}|[A-Za-z0-9]{24}|[A-Za-z0-9]{32}",
        entropy=3.2,
    ),
    shaped("volcengine-access-key", "aklt", r"AKLT[A-Za-z0-9_\-]{36,64}={0,2}"),
    keyed(
        "volcengine-secret", "volc ark_api doubao bytedance", rf"{_UUID}|[A-Za-z0-9+/]{{50,64}}={{0,2}}", entropy=3.2
    ),
    keyed("huawei-cloud-key", "huawei hwcloud obs_ hw_", r"[A-Za-z0-9]{40}|[A-Z0-9]{20}", entropy=3.2),
    keyed("jdcloud-key", "jdcloud jd_access", r"JDC_[A-F0-9]{28,32}|[A-F0-9]{32}"),
    shaped("jdcloud-key", "jdc_", r"JDC_[A-Z0-9]{28,32}"),
    keyed("qiniu-key", "qiniu 七牛", r"[\w\-]{40}(?![\w\-])", entropy=3.5),
    keyed("ucloud-key", "ucloud upyun", r"[A-Za-z0-9+/=]{40,64}", entropy=3.5),
    keyed("zhipu-key", "zhipu glm bigmodel 智谱 api_key apikey api-key", r"[a-f0-9]{32}\.[A-Za-z0-9]{16}"),
    keyed(
        "minimax-key",
        "minimax moonshot kimi stepfun baichuan 智谱 zhipu glm sensenova hunyuan",
        r"eyJ[\w\-]{10,300}\.[\w\-]{20,500}\.[\w\-]{20,500}|sk-[A-Za-z0-9]{32,64}|[A-Za-z0-9]{32,64}",
        entropy=3.2,
    ),
    keyed("iflytek-key", "xfyun iflytek spark 讯飞 xunfei", r"[a-f0-9]{32}|[A-Za-z0-9]{32}", entropy=3.2),
    shaped("modelscope-token", "ms-", rf"ms-{_UUID}"),
    keyed("wechat-secret", "appsecret app_secret app-secret wechat weixin wx_ wxapp 微信 小程序", r"[a-f0-9]{32}"),
    keyed("wechat-pay-key", "mchkey mch_key apiv3 paykey partnerkey 商户", r"[A-Za-z0-9]{32}", entropy=3.0),
    keyed(
        "wecom-secret",
        "corpsecret corp_secret wecom wework qyapi 企业微信 encodingaeskey encoding_aes_key aeskey aes_key",
        r"[\w\-]{43}(?![\w\-])",
        entropy=3.5,
    ),
    shaped(
        "wecom-webhook", "qyapi.weixin.qq.com", rf"qyapi\.weixin\.qq\.com/cgi-bin/webhook/send\?key=(?P<value>{_UUID})"
    ),
    shaped(
        "dingtalk-webhook", "oapi.dingtalk.com", r"oapi\.dingtalk\.com/robot/send\?access_token=(?P<value>[a-f0-9]{64})"
    ),
    shaped("dingtalk-sign-secret", "sec", r"SEC[a-f0-9]{64}"),
    keyed(
        "dingtalk-secret",
        "dingtalk dingding 钉钉 appsecret app_secret clientsecret client_secret",
        r"[\w\-]{64}(?![\w\-])",
        entropy=3.5,
    ),
    shaped("feishu-webhook", "/bot/v2/hook/ /bot/hook/", rf"/bot/(?:v2/)?hook/(?P<value>{_UUID}|[a-f0-9]{{32}})"),
    keyed("feishu-secret", "feishu lark 飞书 app_secret appsecret", r"[A-Za-z0-9]{32}", entropy=3.0),
    shaped("feishu-token", "t-g u- a-", r"(?:t-g|u-|a-)[A-Za-z0-9]{30,60}\.[A-Za-z0-9_\-]{8,60}", entropy=3.8),
    keyed("amap-key", "amap gaode 高德 lbs tianditu 天地图 百度地图", r"[a-f0-9]{32}|[A-Za-z0-9]{32}", entropy=3.0),
    keyed(
        "jpush-secret", "jpush 极光 getui 个推 umeng 友盟", r"[a-f0-9]{24}|[A-Za-z0-9]{22}|[a-z0-9]{32}", entropy=3.0
    ),
    shaped("serverchan-key", "sct", r"SCT\d{3,7}T[A-Za-z0-9]{24,40}"),
    shaped("coze-token", "pat_ czu_ cztei_", r"pat_[A-Za-z0-9]{64}|czu_[A-Za-z0-9]{40,80}|cztei_[A-Za-z0-9]{40,80}"),
    shaped("dify-key", "app- dataset-", r"(?:app|dataset)-[A-Za-z0-9]{24}", entropy=3.5),
    shaped("siliconflow-key", "sk-", r"sk-[a-z]{48}", entropy=3.2),
)
