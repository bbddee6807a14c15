"""Spanish: digits, "veinti…", tens joined by "y", "doscientos", "arroba" and "punto"."""

from __future__ import annotations

from steno.redaction.spoken.lexicon import Form, Number, Table, Topic, digits, topics, words

_WHOLE = (
    "veintiuno/veintiún/veintiun veintidós/veintidos veintitrés/veintitres veinticuatro "
    "veinticinco veintiséis/veintiseis veintisiete veintiocho veintinueve"
)
_HUNDREDS = (
    "doscientos/doscientas trescientos/trescientas cuatrocientos/cuatrocientas "
    "quinientos/quinientas seiscientos/seiscientas setecientos/setecientas "
    "ochocientos/ochocientas novecientos/novecientas"
)

TABLE = Table(
    code="es",
    numbers=digits(
        "cero uno/un/una dos tres cuatro cinco seis siete ocho nueve",
        "diez once doce trece catorce quince dieciséis/dieciseis diecisiete dieciocho diecinueve",
        "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    )
    | {
        word: Number(value, Form.WHOLE)
        for value, spellings in enumerate(_WHOLE.split(), 21)
        for word in spellings.split("/")
    }
    | {
        word: Number(100 * value, Form.HUNDREDS)
        for value, spellings in enumerate(_HUNDREDS.split(), 2)
        for word in spellings.split("/")
    }
    | {
        "cien": Number(100, Form.HUNDREDS),
        "ciento": Number(100, Form.HUNDREDS),
        "mil": Number(1000, Form.THOUSAND),
        "millón": Number(1_000_000, Form.MILLION),
        "millones": Number(1_000_000, Form.MILLION),
    },
    not_numbers=words("o oh ten on die elf one"),
    weak=words("un una uno"),
    multipliers={"doble": 2, "triple": 3},
    fillers=words(
        "eh em este pues mmm mm ah sí si vale bueno entonces luego guion guión raya espacio "
        "coma perdón perdon espere a ver barra punto otra vez después prefijo más mas bien ya"
    ),
    joins=words("y"),
    ors=words("o u"),
    units=words(
        "euro euros dólar dólares dolares peso pesos céntimos centimos centavos por ciento "
        "segundo segundos minuto minutos hora horas día días dias noche noches semana semanas mes "
        "meses año años veces vez metros kilómetros kilometros kilo kilos gramos litros grados "
        "personas clientes usuarios unidades piezas cajas entradas páginas paginas puntos megas "
        "gigas botellas hijos niños productos paquetes artículos articulos"
    ),
    time_words=words(
        "en desde hasta del de las la año años a enero febrero marzo abril mayo junio julio "
        "agosto septiembre octubre noviembre diciembre"
    ),
    topics=topics(
        {
            Topic.PHONE: "teléfono telefono móvil movil celular tel fijo whatsapp contacto",
            Topic.CALL: "llámame llamame llamar llámeme llameme llamarme marcar localizarme",
            Topic.CARD: "tarjeta visa mastercard amex",
            Topic.SSN: "social",
            Topic.ACCOUNT: "cuenta pasaporte dni nie",
            Topic.IBAN: "iban",
            Topic.CODE: "cvv cvc",
            Topic.EMAIL: "correo email e-mail mail electrónico electronico",
            Topic.KEEP: "pedido factura referencia seguimiento reserva versión version modelo "
            "pieza serie producto artículo articulo vuelo habitación habitacion página pagina "
            "póliza poliza código codigo postal extensión extension lote paquete envío envio "
            "cupón cupon contrato recibo incidencia expediente caso ticket contador lectura "
            "precio cuesta total importe saldo pagué pague año nací nacido nacimiento caduca "
            "caducidad fecha vence cliente socio billete presupuesto cantidad población peso",
        }
    ),
    number_words=words("número numero números numeros dígitos"),
    mine=words("mi tu su mis"),
    ending=words("termina terminada acaba acabada últimos ultimos últimas"),
    at=words("arroba"),
    dots=words("punto"),
    joiners=words("guion guión bajo barra raya subrayado"),
    stops=words(
        "es el la los las un una mi tu su correo email e-mail mail electrónico electronico "
        "dirección direccion a en de por para con que y o me le lo escribe escriba escribir "
        "escríbeme mande manda enviar envíe sí si vale bueno eh está este esto era ser soy son "
        "nuestro nuestra se nombre usuario cuenta pues personal apunte apunta"
    ),
)
