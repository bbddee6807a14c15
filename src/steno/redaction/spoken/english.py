"""English: digits with "oh", "double" and "triple", pairs, hundreds."""

from __future__ import annotations

from steno.redaction.spoken.lexicon import Form, Number, Table, Topic, digits, topics, words

TABLE = Table(
    code="en",
    numbers=digits(
        "zero/oh/o/nought/naught one two three four five six/sicks seven eight nine/niner",
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty/fourty fifty sixty seventy eighty ninety/ninty",
    )
    | {
        "hundred": Number(100, Form.HUNDRED),
        "thousand": Number(1000, Form.THOUSAND),
        "million": Number(1_000_000, Form.MILLION),
        "billion": Number(1_000_000_000, Form.MILLION),
    },
    not_numbers=words("once cent mil elf un on die"),
    weak=words("one"),
    multipliers={"double": 2, "triple": 3, "treble": 3, "quadruple": 4, "dubble": 2},
    fillers=words(
        "uh uhm um umm erm er ah hmm hm mhm mm eh like okay ok yes yeah yep so then sorry wait "
        "let me see please dash hyphen space dot point area code again next comma right well now "
        "slash parenthesis plus"
    ),
    soft=words("to too for ate won fore"),
    joins=words("and"),
    ors=words("or"),
    units=words(
        "dollar dollars euro euros cent cents pound pounds bucks buck quid percent per pence "
        "second seconds minute minutes hour hours day days night nights week weeks month months "
        "year years times time mile miles km kilometers kilometres meters metres feet foot inch "
        "inches kilo kilos kilograms grams gram lbs ounces liters litres gallons degrees people "
        "persons guests users customers employees units pieces items boxes copies bottles tickets "
        "pages points votes megabytes gigabytes mb gb kb terabytes bytes volts watts calories "
        "o'clock am pm a.m p.m noon grand square cubic hundredths kids children cars steps "
        "shares seats rows lines orders packages pallets stars sheets bags"
    ),
    time_words=words(
        "in since by until till from at around about during year before after of between "
        "january february march april may june july august september october november december"
    ),
    topics=topics(
        {
            Topic.PHONE: "phone telephone cell cellphone mobile fax landline callback tel "
            "whatsapp contact phones",
            Topic.CALL: "call reach text dial ring calling",
            Topic.CARD: "card visa mastercard amex debit maestro",
            Topic.SSN: "social ssn itin",
            Topic.ACCOUNT: "account routing passport licence license bsb",
            Topic.IBAN: "iban",
            Topic.CODE: "cvv cvc cvv2 cvc2",
            Topic.EMAIL: "email e-mail gmail emails",
            Topic.KEEP: "order invoice ticket reference ref case tracking confirmation booking "
            "reservation version model part serial product sku item flight room page policy "
            "claim zip zipcode postal postcode extension build article quantity batch lot ean isbn "
            "parcel shipment coupon voucher contract receipt transaction po error meter reading "
            "odometer mileage population price priced prices cost costs total amount balance paid "
            "worth year born birthday birth expires expiry expiration expire exp date percent "
            "score weight weighs release firmware revision job id customer member membership "
            "loyalty warranty purchase rma barcode imei upc delivery package incident budget "
            "revenue sales "
            "salary fee counter size dimensions resolution coordinates latitude longitude",
        }
    ),
    number_words=words("number numbers digits"),
    mine=words("my your his her our their whose"),
    ending=words("ending ends last final end"),
    at=words("at"),
    dots=words("dot point period"),
    joiners=words("underscore dash hyphen minus plus underline"),
    stops=words(
        "a an the is it it's its that that's this my your his her our their email e-mail mail "
        "address to at by from on in of or and as for with me us you him them write send sent "
        "reach contact use using was be are am i so yes yeah okay ok um uh look looked looking "
        "available order ordered bought buy shop shopping up visit visited found find here there "
        "online website site meet work works working get got see sign signed called account "
        "username login stay stayed just please check out page live arrive everything products "
        "item items support only not now then more prices deal deals them one ones something "
        "anything we they he she do did does has have had will would can could should if when "
        "where what which who how but because under personal business company private correct "
        "new old try sure spell spelled spelt"
    ),
)
